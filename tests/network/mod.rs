//! Peers on networks of their own: each in a namespace, behind links that are as slow as homes have them.

mod floods;
mod lab;
mod links;
mod reached;
mod routers;
