//! Fuel: what a script has used up, in operations of the engine and in bytes that they touch.
//!
//! The engine counts operations, but one operation may copy a large value. Every read of a variable therefore costs by
//! the size of its value, and so does every function of the host. Nothing grows without being read first, so what one
//! unit of fuel can cost has a bound.

use std::cell::Cell;
use std::rc::Rc;

use rhai::{Dynamic, Engine, EvalAltResult, Position};

use super::host::State;
use super::{FUEL_ITEM, TEXT_BYTES_MAX};

/// Bytes that a unit of fuel touches.
const BYTES_PER_UNIT: usize = 256;
/// Bytes of an element of an array, and of an entry of a map without its key.
const ELEMENT_BYTES: usize = 16;
const ENTRY_BYTES: usize = 64;
/// Values within values.
const NESTING_MAX: usize = 8;

/// What a call of the script or of the host comes to.
pub(super) type Charged<T> = Result<T, Box<EvalAltResult>>;

/// The fuel of one item.
#[derive(Default)]
pub(super) struct Fuel {
    /// Operations of the engine.
    operations: Cell<u64>,
    /// What was charged besides.
    charged: Cell<u64>,
}

impl Fuel {
    pub(super) fn refill(&self) {
        self.operations.set(0);
        self.charged.set(0);
    }

    pub(super) fn used(&self) -> u64 {
        self.operations.get().saturating_add(self.charged.get())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used() >= FUEL_ITEM
    }

    /// Charges for touching `bytes`. The error is one that ends the script whatever it does.
    pub(super) fn charge(&self, bytes: usize) -> Charged<()> {
        self.charged.set(self.charged.get().saturating_add((bytes / BYTES_PER_UNIT) as u64));
        if self.is_empty() {
            return Err(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into());
        }
        Ok(())
    }

    /// Charges for touching a value.
    pub(super) fn charge_for(&self, value: &Dynamic) -> Charged<()> {
        self.charge(bytes(value, NESTING_MAX)?)
    }

    /// Makes an engine pay for operations and for reading variables.
    #[allow(
        deprecated,
        reason = "the engine marks what may change in later versions this way; this one is pinned"
    )]
    pub(super) fn meter(state: &Rc<State>, engine: &mut Engine) {
        let meter = state.clone();
        engine.on_progress(move |operations| {
            meter.fuel.operations.set(operations);
            meter.fuel.is_empty().then_some(Dynamic::UNIT)
        });
        let meter = state.clone();
        engine.on_var(move |name, _, mut context| {
            if let Some(value) = context.scope_mut().get(name) {
                meter.fuel.charge_for(value)?;
            }
            Ok(None)
        });
    }
}

/// Bytes of a value and of all that is in it.
fn bytes(value: &Dynamic, nesting: usize) -> Charged<usize> {
    let deeper = || nesting.checked_sub(1).ok_or_else(|| too_large("values within values"));
    if let Ok(array) = value.as_array_ref() {
        let nesting = deeper()?;
        return array.iter().try_fold(0, |sum, value| Ok(sum + ELEMENT_BYTES + bytes(value, nesting)?));
    }
    if let Ok(map) = value.as_map_ref() {
        let nesting = deeper()?;
        return map.iter().try_fold(0, |sum, (key, value)| {
            // The engine does not count keys among the texts of a value.
            let key =
                if key.len() > TEXT_BYTES_MAX / 64 { return Err(too_large("a key")) } else { key.len() };
            Ok(sum + ENTRY_BYTES + key + bytes(value, nesting)?)
        });
    }
    Ok(value.as_immutable_string_ref().map_or(0, |text| text.len()))
}

pub(super) fn too_large(what: &str) -> Box<EvalAltResult> {
    EvalAltResult::ErrorDataTooLarge(what.to_owned(), Position::NONE).into()
}
