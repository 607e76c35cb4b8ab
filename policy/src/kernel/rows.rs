//! What happens between products, row by row, each with its gradient.
//!
//! C channels, D head size, T positions.

use super::isa::for_every_instruction_set;

/// Lanes of every sum.
const LANES: usize = 16;
/// Values whose sum is taken at a time by [`exponentials`].
pub(crate) const SUM_BLOCK: usize = 128;

/// eˣ: Cephes' polynomial, relative error below 2·10⁻⁷; about 0 below −87, about e⁸⁸ above 88.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5·2²³ leaves the nearest integer in the low bits: no call, no branch, vectorises.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    let power = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127);
    y * f32::from_bits((power << 23) as u32)
}

/// Sums the lanes in a fixed tree.
#[inline(always)]
fn tree(lanes: [f32; LANES]) -> f32 {
    // Arrays of their own, which the compiler keeps in registers.
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Σ f over rows of one length, side by side: lane i mod 16, then the tree.
#[inline(always)]
fn lane_sum<const N: usize>(rows: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = rows.map(|row| row.as_chunks::<LANES>());
    let whole = chunks.iter().map(|(chunks, _)| chunks.len()).min().unwrap_or(0);
    for at in 0..whole {
        let values: [&[f32; LANES]; N] = std::array::from_fn(|row| &chunks[row].0[at]);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(std::array::from_fn(|row| values[row][lane]));
        }
    }
    let rest = chunks.iter().map(|(_, rest)| rest.len()).min().unwrap_or(0);
    for (lane, sum) in lanes.iter_mut().enumerate().take(rest) {
        *sum += f(chunks.map(|(_, rest)| rest[lane]));
    }
    tree(lanes)
}

/// The largest value; not-a-numbers are passed over.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    let larger = |max: &mut f32, value: f32| *max = if value > *max { value } else { *max };
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            larger(lane, *value);
        }
    }
    rest.iter().zip(&mut lanes).for_each(|(value, lane)| larger(lane, *value));
    lanes.into_iter().fold(f32::NEG_INFINITY, |max, value| if value > max { value } else { max })
}

for_every_instruction_set! {
    /// y = x / rms(x) · w for rows of width C; 1 / rms of each row goes to `inverse`.
    pub(crate) fn rms_norm(y: &mut [f32], inverse: &mut [f32], x: &[f32], w: &[f32], eps: f32) {
        let c = w.len();
        for ((y, x), inverse) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(inverse) {
            let mean = lane_sum([x], |[x]| x * x) / c as f32;
            *inverse = 1.0 / (mean + eps).sqrt();
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = x * *inverse * w;
            }
        }
    }
}

for_every_instruction_set! {
    /// [`rms_norm`] again, from the 1 / rms that it returned.
    pub(crate) fn rms_norm_again(y: &mut [f32], inverse: &[f32], x: &[f32], w: &[f32]) {
        let c = w.len();
        for ((y, x), inverse) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)).zip(inverse) {
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = x * *inverse * w;
            }
        }
    }
}

for_every_instruction_set! {
    /// dx += ∂L/∂x of [`rms_norm`].
    pub(crate) fn rms_norm_gradient(dx: &mut [f32], dy: &[f32], x: &[f32], w: &[f32], inverse: &[f32]) {
        let c = w.len();
        let rows = dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)).zip(x.chunks_exact(c)).zip(inverse);
        for (((dx, dy), x), &inverse) in rows {
            let dot = lane_sum([dy, w, x], |[dy, w, x]| dy * w * x);
            let scale = dot * inverse * inverse * inverse / c as f32;
            for (((dx, dy), x), w) in dx.iter_mut().zip(dy).zip(x).zip(w) {
                *dx += dy * w * inverse - x * scale;
            }
        }
    }
}

for_every_instruction_set! {
    /// dw += ∂L/∂w of [`rms_norm`], row after row.
    pub(crate) fn rms_norm_weight_gradient(dw: &mut [f32], dy: &[f32], x: &[f32], inverse: &[f32]) {
        let c = dw.len();
        for ((dy, x), inverse) in dy.chunks_exact(c).zip(x.chunks_exact(c)).zip(inverse) {
            for ((dw, dy), x) in dw.iter_mut().zip(dy).zip(x) {
                *dw += dy * x * inverse;
            }
        }
    }
}

for_every_instruction_set! {
    /// Turns every head of `row` (a multiple of D wide): pairs (i, i + D/2), as in Hugging Face's
    /// `rotate_half`; `direction` −1 turns back, which is the gradient.
    pub(crate) fn rotate(row: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
        let half = cos.len();
        let sin = &sin[..half];
        for head in row.chunks_exact_mut(2 * half) {
            let (low, high) = head.split_at_mut(half);
            for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                let (a, b, sin) = (*low, *high, direction * sin);
                *low = a * cos - b * sin;
                *high = b * cos + a * sin;
            }
        }
    }
}

for_every_instruction_set! {
    /// Softmax of `row · scale` in place.
    pub(crate) fn softmax(row: &mut [f32], scale: f32) {
        let max = largest(row) * scale;
        row.iter_mut().for_each(|value| *value = exp(*value * scale - max));
        let inverse = 1.0 / lane_sum([row], |[p]| p);
        row.iter_mut().for_each(|value| *value *= inverse);
    }
}

for_every_instruction_set! {
    /// Gradient of [`softmax`] by its input: `dp` becomes p · (dp − Σ p·dp) · scale.
    pub(crate) fn softmax_gradient(dp: &mut [f32], p: &[f32], scale: f32) {
        let p = &p[..dp.len()];
        let mean = lane_sum([p, dp], |[p, dp]| p * dp);
        dp.iter_mut().zip(p).for_each(|(dp, p)| *dp = p * (*dp - mean) * scale);
    }
}

for_every_instruction_set! {
    /// silu(gate) · up, elementwise.
    pub(crate) fn swiglu(y: &mut [f32], gate: &[f32], up: &[f32]) {
        for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
            *y = g / (1.0 + exp(-g)) * u;
        }
    }
}

for_every_instruction_set! {
    /// Gradients of [`swiglu`]: `gate` and `up` are overwritten with theirs, `y` with its value.
    pub(crate) fn swiglu_gradient(y: &mut [f32], dy: &[f32], gate: &mut [f32], up: &mut [f32]) {
        for (((y, dy), g), u) in y.iter_mut().zip(dy).zip(gate).zip(up) {
            let sigmoid = 1.0 / (1.0 + exp(-*g));
            let silu = *g * sigmoid;
            let slope = sigmoid * (1.0 + *g * (1.0 - sigmoid));
            *y = silu * *u;
            *g = dy * *u * slope;
            *u = dy * silu;
        }
    }
}

for_every_instruction_set! {
    /// y += x.
    pub(crate) fn add(y: &mut [f32], x: &[f32]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    }
}

for_every_instruction_set! {
    /// y *= scale.
    pub(crate) fn multiply(y: &mut [f32], scale: f32) {
        y.iter_mut().for_each(|y| *y *= scale);
    }
}

for_every_instruction_set! {
    /// Exponentials of a row of logits times `scale`, less the largest: returns the largest and their
    /// sum. The sum goes block by block of [`SUM_BLOCK`]; `blocks` receives each.
    pub(crate) fn exponentials(
        e: &mut [f32], blocks: &mut Vec<f32>, logits: &[f32], scale: f32,
    ) -> (f32, f32) {
        let max = largest(logits) * scale;
        blocks.clear();
        let mut total = 0.0;
        for (e, logits) in e.chunks_mut(SUM_BLOCK).zip(logits.chunks(SUM_BLOCK)) {
            for (e, logit) in e.iter_mut().zip(logits) {
                *e = exp(*logit * scale - max);
            }
            let sum = lane_sum([e], |[e]| e);
            total += sum;
            blocks.push(sum);
        }
        (max, total)
    }
}

for_every_instruction_set! {
    /// Entropy in nats of the distribution e / sum whose exponentials [`exponentials`] made.
    pub(crate) fn entropy(e: &[f32], logits: &[f32], scale: f32, max: f32, sum: f32) -> f32 {
        let weighted = lane_sum([e, logits], |[e, logit]| e * (logit * scale - max));
        libm::logf(sum) - weighted / sum
    }
}

for_every_instruction_set! {
    /// Logits become −p · weight, where p = exp(logit · scale − log_sum).
    pub(crate) fn negative_probabilities(logits: &mut [f32], scale: f32, log_sum: f32, weight: f32) {
        logits.iter_mut().for_each(|logit| *logit = exp(*logit * scale - log_sum) * -weight);
    }
}

/// Constants of one AdamW step.
#[derive(Clone, Copy)]
pub(crate) struct Adam {
    pub(crate) rate: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) epsilon: f32,
    /// 1 − β₁ᵗ and 1 − β₂ᵗ.
    pub(crate) corrections: [f32; 2],
    /// What is left of a weight before the step: 1 − rate · weight decay.
    pub(crate) keep: f32,
    /// Factor of the gradient, for clipping.
    pub(crate) scale: f32,
}

for_every_instruction_set! {
    /// AdamW (Loshchilov and Hutter) in place.
    pub(crate) fn adam(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], a: Adam) {
        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * a.scale;
            *m = a.beta1 * *m + (1.0 - a.beta1) * g;
            *v = a.beta2 * *v + (1.0 - a.beta2) * g * g;
            *w = *w * a.keep - a.rate * (*m / a.corrections[0]) / ((*v / a.corrections[1]).sqrt() + a.epsilon);
        }
    }
}

for_every_instruction_set! {
    /// Σ x² in double precision.
    pub(crate) fn sum_of_squares(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let chunks = x.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(*x) * f64::from(*x);
            }
        }
        rest.iter().zip(&mut lanes).for_each(|(x, lane)| *lane += f64::from(*x) * f64::from(*x));
        lanes.iter().sum()
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
        assert!(exp(-1e30) < 1e-37 && exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn a_turn_back_undoes_a_turn() {
        let mut row = [1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 0.0, 2.0];
        let before = row;
        let (cos, sin) = ([0.6, 0.8], [0.8, 0.6]);
        rotate(&mut row, &cos, &sin, 1.0);
        assert!((row[0] - before[0]).abs() > 0.1);
        rotate(&mut row, &cos, &sin, -1.0);
        assert!(row.iter().zip(before).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn softmax_and_entropy_of_a_small_row() {
        let mut row = [0.0, 1.0, 2.0];
        softmax(&mut row, 1.0);
        assert!((row[0] - 0.090_030_57).abs() < 1e-6 && (row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let logits = [0.0f32; 40];
        let (mut e, mut blocks) = ([0.0; 40], Vec::new());
        let (max, sum) = exponentials(&mut e, &mut blocks, &logits, 2.0);
        assert_eq!((max, sum), (0.0, 40.0));
        assert!((entropy(&e, &logits, 2.0, max, sum) - 40f32.ln()).abs() < 1e-5);
    }
}
