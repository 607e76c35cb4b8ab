//! Which instruction set the kernels use.
//!
//! Results never depend on it: every kernel computes each output by the same operations in the same
//! order, whatever its width. It can be narrowed, to show exactly that.

use std::sync::atomic::{AtomicU8, Ordering};

/// Instruction sets that kernels are compiled for, from narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What every processor of the target has. Without a fused multiply-add it is slow, but right.
    Baseline = 1,
    /// AVX2 and FMA: x86-64 since about 2013.
    Avx2 = 2,
    /// AVX-512F.
    Avx512 = 3,
}

const UNKNOWN: u8 = 0;
static CHOSEN: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The widest set that the processor has.
pub fn widest_instruction_set() -> InstructionSet {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        let wide = is_x86_feature_detected!("avx512f");
        return if wide { InstructionSet::Avx512 } else { InstructionSet::Avx2 };
    }
    InstructionSet::Baseline
}

/// The set in use, in this whole process.
#[inline]
pub fn instruction_set() -> InstructionSet {
    match CHOSEN.load(Ordering::Relaxed) {
        1 => InstructionSet::Baseline,
        2 => InstructionSet::Avx2,
        3 => InstructionSet::Avx512,
        _ => limit_instruction_set(InstructionSet::Avx512),
    }
}

/// Uses no set wider than `limit` from now on, in this whole process; returns the set in use.
pub fn limit_instruction_set(limit: InstructionSet) -> InstructionSet {
    let chosen = limit.min(widest_instruction_set());
    CHOSEN.store(chosen as u8, Ordering::Relaxed);
    chosen
}

/// Compiles one body for every instruction set and picks at run time.
///
/// The compiler never fuses or reorders floating-point operations by itself, so the copies differ in
/// speed only.
macro_rules! for_every_instruction_set {
    ($(#[$doc:meta])* pub(crate) fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name($($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $ty),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($arg: $ty),*) $(-> $out)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $ty),*) $(-> $out)? { body($($arg),*) }
                match $crate::kernel::isa::instruction_set() {
                    // SAFETY: `instruction_set` is never wider than what the processor reported.
                    $crate::kernel::isa::InstructionSet::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::isa::InstructionSet::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernel::isa::InstructionSet::Baseline => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use for_every_instruction_set;
