//! The small functions between the products, each with its gradient.
//!
//! Sums run in index order and `exp` is a polynomial of plain multiplications and additions, so the
//! results do not depend on the platform's C library. B batch, T time, C channels, D head size.

/// eˣ for f32: Cephes' polynomial, relative error below 2·10⁻⁷, 0 below −87.
#[inline]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    // Rounding to the nearest integer by adding 1.5·2²³ vectorises without a call.
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    y * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// y = x / rms(x) · w per row of width C; returns 1 / rms of each row in `inverse`.
pub(crate) fn rms_norm(y: &mut [f32], inverse: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
    let c = w.len();
    for ((y, x), inverse) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(inverse) {
        let mean = x.iter().map(|v| v * v).sum::<f32>() / c as f32;
        *inverse = 1.0 / (mean + eps).sqrt();
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = x * *inverse * w;
        }
    }
}

/// dx += ∂L/∂x and dw += ∂L/∂w of [`rms_norm`].
pub(crate) fn rms_norm_gradient(
    dx: &mut [f32],
    dw: &mut [f32],
    dy: &[f32],
    x: &[f32],
    w: &[f32],
    inverse: &[f32],
) {
    let c = w.len();
    let rows = dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)).zip(x.chunks_exact(c)).zip(inverse);
    for (((dx, dy), x), &inverse) in rows {
        let mut dot = 0.0;
        for i in 0..c {
            dot += dy[i] * w[i] * x[i];
            dw[i] += dy[i] * x[i] * inverse;
        }
        let scale = dot * inverse * inverse * inverse / c as f32;
        for i in 0..c {
            dx[i] += dy[i] * w[i] * inverse - x[i] * scale;
        }
    }
}

/// Cosines and sines of rotary positions: `[position][D / 2]`.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Rotary {
    pub(crate) fn new(positions: usize, head_dim: usize, theta: f32) -> Self {
        let half = head_dim / 2;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in 0..positions {
            for i in 0..half {
                let angle = position as f32 / libm::powf(theta, 2.0 * i as f32 / head_dim as f32);
                cos.push(libm::cosf(angle));
                sin.push(libm::sinf(angle));
            }
        }
        Self { cos, sin, half }
    }

    /// Turns every head of `row` (a multiple of D wide) to `position`. The pairs are (i, i + D/2), as in
    /// Hugging Face's `rotate_half`.
    pub(crate) fn turn(&self, row: &mut [f32], position: usize) {
        self.rotate(row, position, 1.0);
    }

    /// The gradient of [`Self::turn`]: the turn back.
    pub(crate) fn turn_back(&self, row: &mut [f32], position: usize) {
        self.rotate(row, position, -1.0);
    }

    fn rotate(&self, row: &mut [f32], position: usize, direction: f32) {
        let at = position * self.half;
        let (cos, sin) = (&self.cos[at..at + self.half], &self.sin[at..at + self.half]);
        for head in row.chunks_exact_mut(2 * self.half) {
            let (low, high) = head.split_at_mut(self.half);
            for i in 0..self.half {
                let (a, b, sin) = (low[i], high[i], direction * sin[i]);
                low[i] = a * cos[i] - b * sin;
                high[i] = b * cos[i] + a * sin;
            }
        }
    }
}

/// Softmax in place.
pub(crate) fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = exp(*value - max);
        sum += *value;
    }
    for value in row.iter_mut() {
        *value /= sum;
    }
}

/// ln Σ exp of a row, by its largest value.
pub(crate) fn log_sum_exp(row: &[f32]) -> f32 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    max + libm::logf(row.iter().map(|value| exp(value - max)).sum())
}

/// silu(gate) · up, elementwise.
pub(crate) fn swiglu(y: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
        *y = g / (1.0 + exp(-g)) * u;
    }
}

/// Gradients of [`swiglu`]; `gate` and `up` are overwritten with theirs.
pub(crate) fn swiglu_gradient(dy: &[f32], gate: &mut [f32], up: &mut [f32]) {
    for ((dy, g), u) in dy.iter().zip(gate).zip(up) {
        let sigmoid = 1.0 / (1.0 + exp(-*g));
        let silu = *g * sigmoid;
        let slope = sigmoid * (1.0 + *g * (1.0 - sigmoid));
        *g = dy * *u * slope;
        *u = dy * silu;
    }
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// y += scale · x.
pub(crate) fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_parts_in_ten_million() {
        for i in -8_600..8_700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 2e-7, "{x}: {} {exact}", exp(x));
        }
        assert!(exp(-1e30) < 1e-37);
    }

    #[test]
    fn a_turn_back_undoes_a_turn() {
        let rotary = Rotary::new(8, 4, 10_000.0);
        let mut row = [1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 0.0, 2.0];
        let before = row;
        rotary.turn(&mut row, 5);
        assert!((row[0] - before[0]).abs() > 0.1);
        rotary.turn_back(&mut row, 5);
        assert!(row.iter().zip(before).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
