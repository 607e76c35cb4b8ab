//! Matrix products over plain slices: the only unsafe code of the crate.
//!
//! All products are single-threaded: a swarm's peers train side by side, and a product split over
//! threads loses to a batch split over threads. Matrices are row-major; weights keep the Hugging Face
//! layout `[out, in]`.
#![allow(unsafe_code)]

use gemm::Parallelism;

/// Strides of a matrix in a slice: from row to row, from column to column.
#[derive(Clone, Copy)]
struct Strides {
    row: usize,
    column: usize,
}

/// `dst[m × n] = keep · dst + lhs[m × k] · rhs[k × n]`, dst row-major.
fn product(
    (m, n, k): (usize, usize, usize),
    dst: &mut [f32],
    keep: bool,
    (lhs, lhs_at): (&[f32], Strides),
    (rhs, rhs_at): (&[f32], Strides),
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let last = |rows: usize, columns: usize, at: Strides| (rows - 1) * at.row + (columns - 1) * at.column;
    assert!(dst.len() >= m * n && last(m, k, lhs_at) < lhs.len() && last(k, n, rhs_at) < rhs.len());
    // SAFETY: the assertion above keeps every element that these sizes and strides reach inside its
    // slice, and `dst` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            n as isize,
            keep,
            lhs.as_ptr(),
            lhs_at.column as isize,
            lhs_at.row as isize,
            rhs.as_ptr(),
            rhs_at.column as isize,
            rhs_at.row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// `y[rows × out] = x[rows × in] · Wᵀ`, for `w` as `[out, in]`.
pub(crate) fn linear(y: &mut [f32], x: &[f32], w: &[f32], rows: usize, inputs: usize, outputs: usize) {
    let (x_at, w_at) = (Strides { row: inputs, column: 1 }, Strides { row: 1, column: inputs });
    product((rows, outputs, inputs), y, false, (x, x_at), (w, w_at));
}

/// `dx[rows × in] (+)= dy[rows × out] · W`: the gradient of [`linear`]'s input.
pub(crate) fn linear_input_gradient(
    dx: &mut [f32],
    keep: bool,
    dy: &[f32],
    w: &[f32],
    (rows, inputs, outputs): (usize, usize, usize),
) {
    let (dy_at, w_at) = (Strides { row: outputs, column: 1 }, Strides { row: inputs, column: 1 });
    product((rows, inputs, outputs), dx, keep, (dy, dy_at), (w, w_at));
}

/// `dw[out × in] += dyᵀ · x`: the gradient of [`linear`]'s weights, accumulated in place.
pub(crate) fn linear_weight_gradient(
    dw: &mut [f32],
    dy: &[f32],
    x: &[f32],
    (rows, inputs, outputs): (usize, usize, usize),
) {
    let (dy_at, x_at) = (Strides { row: 1, column: outputs }, Strides { row: inputs, column: 1 });
    product((outputs, inputs, rows), dw, true, (dy, dy_at), (x, x_at));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_small_matrices() {
        // x is 2 × 3, W is [2, 3].
        let (x, w) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, -1.0, 2.0, 1.0, 0.0]);
        let mut y = [9.0; 4];
        linear(&mut y, &x, &w, 2, 3, 2);
        assert_eq!(y, [-2.0, 4.0, -2.0, 13.0]);
        let mut dx = [1.0; 6];
        linear_input_gradient(&mut dx, true, &[1.0, 0.0, 0.0, 1.0], &w, (2, 3, 2));
        assert_eq!(dx, [2.0, 1.0, 0.0, 3.0, 2.0, 1.0]);
        let mut dw = [0.5; 6];
        linear_weight_gradient(&mut dw, &[1.0, 0.0, 0.0, 1.0], &x, (2, 3, 2));
        assert_eq!(dw, [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]);
    }
}
