//! The inner loop of every matrix product: a tile of outputs held in registers over all of k.
//!
//! Each output is one chain of fused multiply-adds over k in order, starting from 0 or from what the
//! destination holds. Tile sizes, blocking and threads decide which outputs are computed together and
//! never how one is computed.

use super::isa::{InstructionSet, instruction_set};
use super::panels::{PANEL, PanelValue};

/// Rows of the largest tile.
pub(crate) const TILE_ROWS: usize = 12;

/// Where a tile reads and writes. All strides count values.
#[derive(Clone, Copy)]
pub(crate) struct Tile<B> {
    /// Products a chain sums.
    pub(crate) k: usize,
    /// First value of the left matrix.
    pub(crate) a: *const f32,
    /// From row to row of it.
    pub(crate) a_row: usize,
    /// From k to k + 1 of it.
    pub(crate) a_k: usize,
    /// First panel of the right matrix.
    pub(crate) b: *const B,
    /// From panel to panel of it.
    pub(crate) b_panel: usize,
    /// First output.
    pub(crate) c: *mut f32,
    /// From row to row of the outputs.
    pub(crate) c_row: usize,
    /// From panel to panel of them.
    pub(crate) c_panel: usize,
    /// Whether chains start from what the destination holds.
    pub(crate) add: bool,
}

/// A register of f32 lanes.
trait Register: Copy {
    /// Lanes.
    const LANES: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn load_bf16(from: *const u16) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// a · b + self, rounded once.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// Asks for a line of memory that will be read soon; any address will do.
    fn prefetch(from: *const u8);
}

/// Lanes for processors without a kernel of their own.
#[derive(Clone, Copy)]
struct Plain([f32; 8]);

impl Register for Plain {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; 8])
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for eight values.
        Self(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller vouches for eight values.
        let bits = unsafe { from.cast::<[u16; 8]>().read_unaligned() };
        Self(bits.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for eight values.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| a.0[i].mul_add(b.0[i], self.0[i])))
    }
    #[inline(always)]
    fn prefetch(_: *const u8) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Register;

    macro_rules! register {
        ($lanes:literal, $type:ty, $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $widen:expr) => {
            impl Register for $type {
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the caller vouches for the instruction set, here and below.
                    unsafe { $zero() }
                }
                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: as above.
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: and for the memory.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn load_bf16(from: *const u16) -> Self {
                    // SAFETY: and for the memory.
                    unsafe { $widen(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: and for the memory.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn add_product(self, a: Self, b: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $fma(a, b, self) }
                }
                #[inline(always)]
                fn prefetch(from: *const u8) {
                    // SAFETY: every x86-64 processor has it, and it reads nothing.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
                }
            }
        };
    }

    /// bf16 is the upper half of an f32.
    #[inline(always)]
    unsafe fn widen16(from: *const u16) -> __m512 {
        // SAFETY: the caller vouches for sixteen values and AVX-512F.
        unsafe {
            let half = _mm256_loadu_si256(from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
        }
    }

    #[inline(always)]
    unsafe fn widen8(from: *const u16) -> __m256 {
        // SAFETY: the caller vouches for eight values and AVX2.
        unsafe {
            let half = _mm_loadu_si128(from.cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half)))
        }
    }

    register!(
        16,
        __m512,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        widen16
    );
    register!(
        8,
        __m256,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        widen8
    );
}

/// Bytes that a panel is asked for ahead of its use: processors do not look far enough by themselves while
/// they are busy multiplying.
const AHEAD_BYTES: usize = 16 * 1024;
/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// `R` rows of `V` registers each of a panel, beginning `lane` lanes into it. `FIRST`: nobody has read this
/// panel just before.
///
/// Few rows of several panels at once would keep more chains in flight, and are slower from any cache but
/// the nearest: memory is read best in one stream.
#[inline(always)]
unsafe fn block<S: Register, B: PanelValue, const R: usize, const V: usize, const FIRST: bool>(
    t: &Tile<B>,
    row: usize,
    panel: usize,
    lane: usize,
) {
    // SAFETY: the caller of `run` vouches for all memory that the tile's sizes and strides reach.
    unsafe {
        let (a, b) = (t.a.add(row * t.a_row), t.b.add(panel * t.b_panel + lane));
        let c = t.c.add(row * t.c_row + panel * t.c_panel + lane);
        let mut sums = [[S::zero(); V]; R];
        if t.add {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(c.add(r * t.c_row + v * S::LANES));
                }
            }
        }
        for k in 0..t.k {
            if FIRST {
                let next = b.wrapping_add(k * PANEL).cast::<u8>().wrapping_add(AHEAD_BYTES);
                for line in (0..PANEL * size_of::<B>()).step_by(LINE_BYTES) {
                    S::prefetch(next.wrapping_add(line));
                }
            }
            let right: [S; V] = std::array::from_fn(|v| load::<S, B>(b.add(k * PANEL + v * S::LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let left = S::splat(*a.add(r * t.a_row + k * t.a_k));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = sum.add_product(left, right);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                sum.store(c.add(r * t.c_row + v * S::LANES));
            }
        }
    }
}

#[inline(always)]
unsafe fn load<S: Register, B: PanelValue>(from: *const B) -> S {
    // SAFETY: `from` points to values of type B, and B tells which type that is.
    unsafe { if B::BF16 { S::load_bf16(from.cast()) } else { S::load(from.cast()) } }
}

/// All rows and panels of a product, in tiles that fit the registers.
macro_rules! runner {
    ($name:ident, $register:ty, $features:literal, wide) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<B: PanelValue>(t: &Tile<B>, rows: usize, panels: usize) {
            // SAFETY: passed on from the caller.
            unsafe { run_wide::<$register, B>(t, rows, panels) }
        }
    };
    ($name:ident, $register:ty, $features:literal, narrow) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<B: PanelValue>(t: &Tile<B>, rows: usize, panels: usize) {
            // SAFETY: passed on from the caller.
            unsafe { run_narrow::<$register, B>(t, rows, panels) }
        }
    };
}

/// For 32 registers of 16 lanes: a panel is two registers wide.
#[inline(always)]
unsafe fn run_wide<S: Register, B: PanelValue>(t: &Tile<B>, rows: usize, panels: usize) {
    // SAFETY: passed on from the caller.
    unsafe {
        for panel in 0..panels {
            let mut row = 0;
            while row + TILE_ROWS <= rows {
                if row == 0 {
                    block::<S, B, TILE_ROWS, 2, true>(t, row, panel, 0);
                } else {
                    block::<S, B, TILE_ROWS, 2, false>(t, row, panel, 0);
                }
                row += TILE_ROWS;
            }
            match rows - row {
                0 => {}
                1 => block::<S, B, 1, 2, true>(t, row, panel, 0),
                2 => block::<S, B, 2, 2, true>(t, row, panel, 0),
                3 => block::<S, B, 3, 2, true>(t, row, panel, 0),
                4 => block::<S, B, 4, 2, true>(t, row, panel, 0),
                5 => block::<S, B, 5, 2, true>(t, row, panel, 0),
                6 => block::<S, B, 6, 2, true>(t, row, panel, 0),
                7 => block::<S, B, 7, 2, true>(t, row, panel, 0),
                8 => block::<S, B, 8, 2, true>(t, row, panel, 0),
                9 => block::<S, B, 9, 2, true>(t, row, panel, 0),
                10 => block::<S, B, 10, 2, true>(t, row, panel, 0),
                _ => block::<S, B, 11, 2, true>(t, row, panel, 0),
            }
        }
    }
}

/// For 16 registers of 8 lanes: a panel is four registers wide and taken in halves.
#[inline(always)]
unsafe fn run_narrow<S: Register, B: PanelValue>(t: &Tile<B>, rows: usize, panels: usize) {
    // SAFETY: passed on from the caller.
    unsafe {
        for panel in 0..panels {
            if rows == 1 {
                block::<S, B, 1, 4, true>(t, 0, panel, 0);
                continue;
            }
            for lane in [0, PANEL / 2] {
                let mut row = 0;
                while row + 6 <= rows {
                    block::<S, B, 6, 2, true>(t, row, panel, lane);
                    row += 6;
                }
                match rows - row {
                    0 => {}
                    1 => block::<S, B, 1, 2, true>(t, row, panel, lane),
                    2 => block::<S, B, 2, 2, true>(t, row, panel, lane),
                    3 => block::<S, B, 3, 2, true>(t, row, panel, lane),
                    4 => block::<S, B, 4, 2, true>(t, row, panel, lane),
                    _ => block::<S, B, 5, 2, true>(t, row, panel, lane),
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
runner!(run_avx512, std::arch::x86_64::__m512, "avx512f,avx2,fma", wide);
#[cfg(target_arch = "x86_64")]
runner!(run_avx2, std::arch::x86_64::__m256, "avx2,fma", narrow);

/// Computes `rows` × `panels` · 32 outputs.
///
/// # Safety
/// Every value that the tile's sizes and strides reach must lie in memory that is readable (`a`, `b`)
/// or exclusively writable (`c`).
pub(crate) unsafe fn run<B: PanelValue>(t: &Tile<B>, rows: usize, panels: usize) {
    // SAFETY: `instruction_set` is never wider than what the processor has; memory is the caller's.
    unsafe {
        match instruction_set() {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => run_avx512(t, rows, panels),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => run_avx2(t, rows, panels),
            _ => run_narrow::<Plain, B>(t, rows, panels),
        }
    }
}
