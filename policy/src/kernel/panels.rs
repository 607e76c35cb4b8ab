//! Matrices in panels of 32 outputs, the order in which [`tile`](super::tile) reads them.
//!
//! A matrix of O outputs and K inputs is `[ceil(O / 32)][K][32]`; lanes beyond O are 0.

use super::tile::{self, Tile};

/// Outputs of one panel: two AVX-512 registers.
pub(crate) const PANEL: usize = 32;

/// A type that panels hold.
pub(crate) trait PanelValue: Copy + Send + Sync {
    /// Whether it is the upper half of an f32.
    const BF16: bool;
}

impl PanelValue for f32 {
    const BF16: bool = false;
}

/// bf16 as its bits.
impl PanelValue for u16 {
    const BF16: bool = true;
}

/// Values that panels of this shape take.
pub(crate) fn panels_len(outputs: usize, inputs: usize) -> usize {
    outputs.div_ceil(PANEL) * PANEL * inputs
}

/// A view of some panels.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a, B = f32> {
    /// The values.
    pub(crate) data: &'a [B],
    /// Outputs, K ≤ 32 · panels.
    pub(crate) outputs: usize,
    /// Inputs.
    pub(crate) inputs: usize,
    /// Values from panel to panel, at least 32 · inputs.
    step: usize,
}

impl<'a, B: PanelValue> Panels<'a, B> {
    pub(crate) fn new(data: &'a [B], outputs: usize, inputs: usize) -> Self {
        assert_eq!(data.len(), panels_len(outputs, inputs));
        Self { data, outputs, inputs, step: inputs * PANEL }
    }

    /// The lanes beyond the outputs counted as outputs too.
    pub(crate) fn padded(self) -> Self {
        Self { outputs: self.count() * PANEL, ..self }
    }

    /// Only the first inputs.
    pub(crate) fn first_inputs(self, inputs: usize) -> Self {
        assert!(inputs <= self.inputs);
        Self { inputs, ..self }
    }

    /// Number of panels.
    pub(crate) fn count(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Some of the panels.
    pub(crate) fn part(&self, panels: std::ops::Range<usize>) -> Panels<'a, B> {
        let outputs = self.outputs.min(panels.end * PANEL) - panels.start * PANEL;
        let data = &self.data[panels.start * self.step..panels.end * self.step];
        Panels { data, outputs, ..*self }
    }
}

/// The left matrix of a product: rows × k, by strides.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) row: usize,
    pub(crate) k: usize,
}

impl<'a> Left<'a> {
    /// Row-major, `width` values from row to row.
    pub(crate) fn rows(data: &'a [f32], rows: usize, width: usize) -> Self {
        Self { data, rows, row: width, k: 1 }
    }

    /// The transpose of a row-major matrix of `width` values from row to row: `rows` of its columns.
    pub(crate) fn columns(data: &'a [f32], rows: usize, width: usize) -> Self {
        Self { data, rows, row: 1, k: width }
    }
}

/// The outputs of a product, by strides; rows are `row` apart, panels `panel` apart.
pub(crate) struct Out<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) row: usize,
    pub(crate) panel: usize,
}

impl<'a> Out<'a> {
    /// Row-major, `width` values from row to row.
    pub(crate) fn rows(data: &'a mut [f32], width: usize) -> Self {
        Self { data, row: width, panel: PANEL }
    }

    /// In panels themselves: output lanes innermost, then this product's rows.
    pub(crate) fn panels(data: &'a mut [f32], rows: usize) -> Self {
        Self { data, row: PANEL, panel: PANEL * rows }
    }
}

/// Every output is one chain of fused multiply-adds over k in order, from 0 or, with `add`, from what
/// `out` holds: `out[r][o] (+)= Σₖ left[r][k] · right[k][o]`.
pub(crate) fn product<B: PanelValue>(out: Out, left: Left, right: Panels<B>, add: bool) {
    let (rows, k, panels) = (left.rows, right.inputs, right.count());
    if rows == 0 || panels == 0 {
        return;
    }
    let whole = right.outputs / PANEL;
    assert!(k > 0 && (rows - 1) * left.row + (k - 1) * left.k < left.data.len());
    assert!((panels - 1) * right.step + k * PANEL <= right.data.len());
    let last = right.outputs - (panels - 1) * PANEL;
    assert!((rows - 1) * out.row + (panels - 1) * out.panel + last <= out.data.len());
    let tile = Tile {
        k,
        a: left.data.as_ptr(),
        a_row: left.row,
        a_k: left.k,
        b: right.data.as_ptr(),
        b_panel: right.step,
        c: out.data.as_mut_ptr(),
        c_row: out.row,
        c_panel: out.panel,
        add,
    };
    // SAFETY: the assertions keep every value that is read or written inside its slice, and `out` is
    // borrowed exclusively; a last panel that is not whole is written to a buffer of its own.
    unsafe {
        tile::run(&tile, rows, whole);
        if whole < panels {
            partial(&tile, rows, whole, last);
        }
    }
}

/// The last panel when fewer than 32 of its lanes are outputs.
unsafe fn partial<B: PanelValue>(tile: &Tile<B>, rows: usize, panel: usize, lanes: usize) {
    let mut buffer = [0.0f32; tile::TILE_ROWS * PANEL];
    for first in (0..rows).step_by(tile::TILE_ROWS) {
        let count = tile::TILE_ROWS.min(rows - first);
        // SAFETY: the caller checked that `lanes` values a row lie inside the output.
        unsafe {
            let c = tile.c.add(first * tile.c_row + panel * tile.c_panel);
            for row in 0..count {
                if tile.add {
                    let from = c.add(row * tile.c_row).cast_const();
                    std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr().add(row * PANEL), lanes);
                }
            }
            let part = Tile {
                a: tile.a.add(first * tile.a_row),
                b: tile.b.add(panel * tile.b_panel),
                c: buffer.as_mut_ptr(),
                c_row: PANEL,
                c_panel: 0,
                ..*tile
            };
            tile::run(&part, count, 1);
            for row in 0..count {
                let to = c.add(row * tile.c_row);
                std::ptr::copy_nonoverlapping(buffer.as_ptr().add(row * PANEL), to, lanes);
            }
        }
    }
}

/// Panels whose outputs are columns `first .. first + outputs` of row-major rows of `width` values, and
/// whose inputs are the rows: `to[o / 32][row][o % 32] = from[row][first + o]`.
pub(crate) fn pack_columns(to: &mut [f32], from: &[f32], width: usize, first: usize, outputs: usize) {
    let rows = from.len() / width;
    if rows == 0 {
        return;
    }
    for (panel, to) in to.chunks_exact_mut(rows * PANEL).enumerate().take(outputs.div_ceil(PANEL)) {
        let lanes = PANEL.min(outputs - panel * PANEL);
        let first = first + panel * PANEL;
        for (line, row) in to.chunks_exact_mut(PANEL).zip(from.chunks_exact(width)) {
            line[..lanes].copy_from_slice(&row[first..first + lanes]);
            line[lanes..].fill(0.0);
        }
    }
}

/// Panels whose outputs are the rows, and whose inputs are columns `first .. first + inputs`:
/// `to[row / 32][i][row % 32] = from[row][first + i]`.
pub(crate) fn pack_rows(to: &mut [f32], from: &[f32], width: usize, first: usize, inputs: usize) {
    for (to, from) in to.chunks_exact_mut(inputs * PANEL).zip(from.chunks(width * PANEL)) {
        let rows = from.len() / width;
        if rows < PANEL {
            to.fill(0.0);
        }
        for (lane, row) in from.chunks_exact(width).enumerate() {
            for (line, value) in to.chunks_exact_mut(PANEL).zip(&row[first..first + inputs]) {
                line[lane] = *value;
            }
        }
    }
}

/// One panel of the transpose: inputs `32 · panel ..` of `matrix` become output lanes, its outputs the
/// inputs. `to` is `[outputs of matrix][32]`.
pub(crate) fn transpose_panel(to: &mut [f32], matrix: Panels, panel: usize) {
    let first = panel * PANEL;
    let lanes = PANEL.min(matrix.inputs - first);
    let step = matrix.inputs * PANEL;
    for (block, to) in to.chunks_mut(PANEL * PANEL).enumerate() {
        let from = &matrix.data[block * step + first * PANEL..][..lanes * PANEL];
        transpose_block(to, from, lanes);
    }
}

/// `to[o][i] = from[i][o]` for up to 32 rows of `to`; lanes beyond `lanes` become 0.
fn transpose_block(to: &mut [f32], from: &[f32], lanes: usize) {
    for (o, line) in to.chunks_exact_mut(PANEL).enumerate() {
        for (i, value) in line[..lanes].iter_mut().enumerate() {
            *value = from[i * PANEL + o];
        }
        line[lanes..].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::isa::{InstructionSet, limit_instruction_set};

    pub(crate) fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// Panels of a row-major `[outputs, inputs]` matrix.
    fn packed(w: &[f32], outputs: usize, inputs: usize) -> Vec<f32> {
        let mut to = vec![0.0; panels_len(outputs, inputs)];
        pack_rows(&mut to, w, inputs, 0, inputs);
        to
    }

    /// The definition, one output at a time.
    fn chain(x: &[f32], w: &[f32], start: f32) -> f32 {
        x.iter().zip(w).fold(start, |sum, (x, w)| x.mul_add(*w, sum))
    }

    #[test]
    fn every_instruction_set_and_shape_computes_the_chain() {
        let widest = limit_instruction_set(InstructionSet::Avx512);
        for set in [InstructionSet::Baseline, InstructionSet::Avx2, InstructionSet::Avx512] {
            if set > widest {
                continue;
            }
            limit_instruction_set(set);
            for rows in (1..=14).chain([25, 40]) {
                for (k, outputs) in [(1, 1), (7, 33), (24, 32), (40, 200), (96, 104)] {
                    let (x, w) = (noise(rows * k, 1), noise(outputs * k, 2));
                    let panels = packed(&w, outputs, k);
                    for add in [false, true] {
                        let before = noise(rows * outputs, 3);
                        let mut y = before.clone();
                        let right = Panels::new(&panels, outputs, k);
                        product(Out::rows(&mut y, outputs), Left::rows(&x, rows, k), right, add);
                        for (at, y) in y.iter().enumerate() {
                            let (row, o) = (at / outputs, at % outputs);
                            let start = if add { before[at] } else { 0.0 };
                            let expected = chain(&x[row * k..][..k], &w[o * k..][..k], start);
                            assert_eq!(y.to_bits(), expected.to_bits(), "{set:?} {rows} {k} {outputs} {at}");
                        }
                    }
                }
            }
        }
        limit_instruction_set(InstructionSet::Avx512);
    }

    #[test]
    fn bf16_panels_are_their_values_in_f32() {
        let (rows, k, outputs) = (5, 40, 70);
        let (x, w) = (noise(rows * k, 1), noise(outputs * k, 2));
        let panels = packed(&w, outputs, k);
        let short: Vec<u16> = panels.iter().map(|v| half::bf16::from_f32(*v).to_bits()).collect();
        let long: Vec<f32> = short.iter().map(|bits| half::bf16::from_bits(*bits).to_f32()).collect();
        let (mut a, mut b) = (vec![0.0; rows * outputs], vec![0.0; rows * outputs]);
        product(Out::rows(&mut a, outputs), Left::rows(&x, rows, k), Panels::new(&short, outputs, k), false);
        product(Out::rows(&mut b, outputs), Left::rows(&x, rows, k), Panels::new(&long, outputs, k), false);
        assert_eq!(a, b);
    }

    #[test]
    fn transposes_and_packs() {
        let (outputs, inputs) = (70, 40);
        let w = noise(outputs * inputs, 5);
        let panels = packed(&w, outputs, inputs);
        let matrix = Panels::new(&panels, outputs, inputs);
        for panel in 0..inputs.div_ceil(PANEL) {
            let mut to = vec![9.0; outputs * PANEL];
            transpose_panel(&mut to, matrix, panel);
            for o in 0..outputs {
                for lane in 0..PANEL {
                    let i = panel * PANEL + lane;
                    let expected = if i < inputs { w[o * inputs + i] } else { 0.0 };
                    assert_eq!(to[o * PANEL + lane], expected);
                }
            }
        }
        let x = noise(6 * 50, 7);
        let mut to = vec![9.0; panels_len(33, 6)];
        pack_columns(&mut to, &x, 50, 10, 33);
        assert_eq!(to[3 * PANEL + 4], x[3 * 50 + 14]);
        assert_eq!(to[6 * PANEL + 5 * PANEL], x[5 * 50 + 42]);
        assert_eq!(to[6 * PANEL + 5 * PANEL + 1], 0.0);
    }
}
