//! The arithmetic of the policy on plain slices, written so that its results are the same bits on every
//! machine: the only unsafe code of the crate.
//!
//! * Products ([`product`]): each output is one chain of fused multiply-adds over k in order.
//! * Sums over a row ([`rows`]): sixteen lanes, then a fixed tree.
//! * `exp` is a polynomial of plain operations; `ln`, `sin` and `cos` come from `libm`.
//!
//! Neither instruction set, threads, batch nor blocking changes which operations produce a value.
#![allow(unsafe_code)]

pub(crate) mod isa;
pub(crate) mod panels;
pub(crate) mod rows;
pub(crate) mod stream;
mod tile;

pub(crate) use panels::{
    Left, Out, PANEL, PanelValue, Panels, pack_columns, pack_rows, panels_len, product, transpose_panel,
};
