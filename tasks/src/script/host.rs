//! The functions that a script has. Each costs fuel by the size of what it touches.
//!
//! | on | functions |
//! |---|---|
//! | numbers | `abs`, `min`, `max`, `gcd`, `to_text`, `char_of` |
//! | texts | `len`, `sub_string`, `split`, `chars`, `trim`, `to_upper`, `to_lower`, `contains`, `starts_with`, `ends_with`, `index_of`, `replace`, `to_int`, `code_of` |
//! | arrays | `len`, `push`, `pop`, `insert`, `remove`, `contains`, `index_of`, `sort`, `reverse`, `slice`, `join`, `sum`, `min`, `max`, `filled` |
//! | maps | `len`, `keys`, `values`, `contains`, `remove` |
//! | chance | `rand`, `choice`, `shuffle`, `sample` |
//! | data | `data_len`, `data_line` |
//!
//! Functions give a new value; only `push`, `pop`, `insert`, `remove`, `sort`, `reverse` and `shuffle` change theirs.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;

use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Map};

use super::fuel::{Charged, Fuel, too_large};
use super::{ARRAY_MAX, TEXT_BYTES_MAX};
use crate::rng::Rng;

/// Ends of a range that is drawn from, so that no difference overflows.
const RAND_MAX: i64 = 1_000_000_000_000_000_000;
/// Bytes charged for each byte of a text that is taken apart: making a text takes as long as copying this many.
const TEXT_COST: usize = 128;

/// What the functions share.
pub(super) struct State {
    pub(super) fuel: Fuel,
    rng: RefCell<Rng>,
    data: BTreeMap<String, Vec<String>>,
}

impl State {
    pub(super) fn new(data: BTreeMap<String, Vec<String>>) -> Self {
        Self { fuel: Fuel::default(), rng: RefCell::new(Rng::keyed(&[0; 32], &[])), data }
    }

    /// Before an item.
    pub(super) fn begin(&self, rng: Rng) {
        self.fuel.refill();
        *self.rng.borrow_mut() = rng;
    }

    fn below(&self, n: usize) -> usize {
        self.rng.borrow_mut().below(n as u64) as usize
    }

    fn elements(&self, array: &Array) -> Charged<()> {
        array.iter().try_for_each(|value| self.fuel.charge_for(value))?;
        self.fuel.charge(16 * array.len())
    }

    fn data(&self, name: &str) -> Charged<&Vec<String>> {
        self.data.get(name).ok_or_else(|| fault(format!("there is no file data/{name}")))
    }
}

fn fault(message: impl Into<String>) -> Box<EvalAltResult> {
    message.into().into()
}

fn position(at: i64, len: usize) -> Charged<usize> {
    let index = usize::try_from(at).ok().filter(|index| *index < len);
    index.ok_or_else(|| fault(format!("there is no element {at} among {len}")))
}

fn text(value: String) -> Charged<ImmutableString> {
    if value.len() > TEXT_BYTES_MAX { Err(too_large("a text")) } else { Ok(value.into()) }
}

fn array(values: Vec<Dynamic>) -> Charged<Array> {
    if values.len() > ARRAY_MAX { Err(too_large("an array")) } else { Ok(values) }
}

/// Order of numbers, texts and arrays of them.
fn compare(a: &Dynamic, b: &Dynamic) -> Charged<Ordering> {
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return Ok(a.cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        return Ok(a.as_str().cmp(b.as_str()));
    }
    if let (Ok(a), Ok(b)) = (a.as_array_ref(), b.as_array_ref()) {
        for (a, b) in a.iter().zip(b.iter()) {
            match compare(a, b)? {
                Ordering::Equal => {}
                other => return Ok(other),
            }
        }
        return Ok(a.len().cmp(&b.len()));
    }
    if let (Ok(a), Ok(b)) = (a.as_char(), b.as_char()) {
        return Ok(a.cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_bool(), b.as_bool()) {
        return Ok(a.cmp(&b));
    }
    Err(fault(format!("{} and {} cannot be compared", a.type_name(), b.type_name())))
}

fn find(array: &Array, wanted: &Dynamic) -> Option<usize> {
    array.iter().position(|value| compare(value, wanted).is_ok_and(Ordering::is_eq))
}

fn written(value: &Dynamic) -> Charged<String> {
    if let Ok(number) = value.as_int() {
        return Ok(number.to_string());
    }
    if let Ok(c) = value.as_char() {
        return Ok(c.to_string());
    }
    if let Ok(yes) = value.as_bool() {
        return Ok(yes.to_string());
    }
    let text = value.as_immutable_string_ref().map(|text| text.to_string());
    text.map_err(|kind| fault(format!("{kind} is no text; use join")))
}

/// Gives the engine all functions.
pub(super) fn register(state: &Rc<State>, engine: &mut Engine) {
    engine.register_iterator::<Range<i64>>();
    engine.register_iterator::<RangeInclusive<i64>>();
    engine.register_iterator::<Array>();
    numbers(engine);
    texts(state, engine);
    searches(state, engine);
    arrays(state, engine);
    changes(state, engine);
    maps(state, engine);
    chance(state, engine);
    data(state, engine);
}

fn numbers(engine: &mut Engine) {
    engine.register_fn("abs", |n: i64| n.checked_abs().ok_or_else(|| fault("the number is too large")));
    engine.register_fn("min", |a: i64, b: i64| a.min(b));
    engine.register_fn("max", |a: i64, b: i64| a.max(b));
    engine.register_fn("gcd", |a: i64, b: i64| {
        let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
        while b > 0 {
            (a, b) = (b, a % b);
        }
        i64::try_from(a).map_err(|_| fault("the number is too large"))
    });
    for name in ["to_text", "to_string"] {
        engine.register_fn(name, |n: i64| n.to_string());
        engine.register_fn(name, |c: char| c.to_string());
        engine.register_fn(name, |yes: bool| yes.to_string());
        engine.register_fn(name, |text: ImmutableString| text);
    }
    engine.register_fn("char_of", |code: i64| {
        let c = u32::try_from(code).ok().and_then(char::from_u32);
        c.map(|c| c.to_string()).ok_or_else(|| fault(format!("{code} is no character")))
    });
}

fn texts(state: &Rc<State>, engine: &mut Engine) {
    engine.register_fn("+", |words: ImmutableString, n: i64| text(format!("{words}{n}")));
    engine.register_fn("code_of", |text: ImmutableString| {
        text.chars().next().map(|c| i64::from(u32::from(c))).ok_or_else(|| fault("the text is empty"))
    });
    engine.register_fn("to_int", |text: ImmutableString| {
        text.trim().parse::<i64>().map_err(|_| fault(format!("{text:?} is no number")))
    });
    let s = state.clone();
    engine.register_fn("len", move |text: ImmutableString| {
        s.fuel.charge(text.len()).map(|()| text.chars().count() as i64)
    });
    let s = state.clone();
    engine.register_fn("sub_string", move |text: ImmutableString, start: i64, len: i64| -> Charged<String> {
        s.fuel.charge(text.len())?;
        let (Ok(start), Ok(len)) = (usize::try_from(start), usize::try_from(len)) else {
            return Err(fault("start and length must not be negative"));
        };
        Ok(text.chars().skip(start).take(len).collect())
    });
    let s = state.clone();
    engine.register_fn("split", move |text: ImmutableString, at: ImmutableString| {
        s.fuel.charge(TEXT_COST * text.len())?;
        array(
            text.split(at.as_str()).take(ARRAY_MAX + 1).map(|part| Dynamic::from(part.to_owned())).collect(),
        )
    });
    let s = state.clone();
    engine.register_fn("chars", move |text: ImmutableString| {
        s.fuel.charge(TEXT_COST * text.len())?;
        array(text.chars().take(ARRAY_MAX + 1).map(|c| Dynamic::from(c.to_string())).collect())
    });
    type Change = fn(&str) -> String;
    let changes: [(&str, Change); 3] = [
        ("trim", |text| text.trim().to_owned()),
        ("to_upper", str::to_uppercase),
        ("to_lower", str::to_lowercase),
    ];
    for (name, change) in changes {
        let s = state.clone();
        engine.register_fn(name, move |value: ImmutableString| {
            s.fuel.charge(4 * value.len())?;
            text(change(&value))
        });
    }
    let s = state.clone();
    engine.register_fn(
        "replace",
        move |value: ImmutableString, from: ImmutableString, to: ImmutableString| {
            s.fuel.charge(4 * value.len())?;
            let found = value.matches(from.as_str()).count();
            if value.len() + found * to.len() > 2 * TEXT_BYTES_MAX {
                return Err(too_large("a text"));
            }
            text(value.replace(from.as_str(), &to))
        },
    );
}

fn searches(state: &Rc<State>, engine: &mut Engine) {
    type Search = fn(&str, &str) -> bool;
    let searches: [(&str, Search); 3] = [
        ("contains", |text, part| text.contains(part)),
        ("starts_with", |text, part| text.starts_with(part)),
        ("ends_with", |text, part| text.ends_with(part)),
    ];
    for (name, search) in searches {
        let s = state.clone();
        engine.register_fn(name, move |text: ImmutableString, part: ImmutableString| {
            s.fuel.charge(4 * (text.len() + part.len())).map(|()| search(&text, &part))
        });
    }
    let s = state.clone();
    engine.register_fn("index_of", move |text: ImmutableString, part: ImmutableString| {
        s.fuel.charge(4 * (text.len() + part.len()))?;
        let found = text.find(part.as_str()).map(|at| text[..at].chars().count());
        Ok::<i64, Box<EvalAltResult>>(found.map_or(-1, |at| at as i64))
    });
    let s = state.clone();
    engine.register_fn("index_of", move |array: &mut Array, wanted: Dynamic| {
        s.elements(array).map(|()| find(array, &wanted).map_or(-1, |at| at as i64))
    });
    let s = state.clone();
    engine.register_fn("contains", move |array: &mut Array, wanted: Dynamic| {
        s.elements(array).map(|()| find(array, &wanted).is_some())
    });
    engine.register_fn("contains", |range: Range<i64>, n: i64| range.contains(&n));
    engine.register_fn("contains", |range: RangeInclusive<i64>, n: i64| range.contains(&n));
}

fn arrays(state: &Rc<State>, engine: &mut Engine) {
    engine.register_fn("len", |array: &mut Array| array.len() as i64);
    let s = state.clone();
    engine.register_fn("==", move |a: Array, b: Array| -> Charged<bool> {
        s.elements(&a)?;
        Ok(compare(&Dynamic::from_array(a), &Dynamic::from_array(b))?.is_eq())
    });
    let s = state.clone();
    engine.register_fn("!=", move |a: Array, b: Array| -> Charged<bool> {
        s.elements(&a)?;
        Ok(compare(&Dynamic::from_array(a), &Dynamic::from_array(b))?.is_ne())
    });
    let s = state.clone();
    engine.register_fn("+", move |mut a: Array, b: Array| {
        s.elements(&a)?;
        s.elements(&b)?;
        a.extend(b);
        array(a)
    });
    let s = state.clone();
    engine.register_fn("filled", move |value: Dynamic, n: i64| {
        let n = usize::try_from(n).ok().filter(|n| *n <= ARRAY_MAX).ok_or_else(|| too_large("an array"))?;
        (0..n).try_for_each(|_| s.fuel.charge_for(&value).and_then(|()| s.fuel.charge(16)))?;
        array(vec![value; n])
    });
    let s = state.clone();
    engine.register_fn("slice", move |values: &mut Array, start: i64, len: i64| {
        s.elements(values)?;
        let (Ok(start), Ok(len)) = (usize::try_from(start), usize::try_from(len)) else {
            return Err(fault("start and length must not be negative"));
        };
        array(values.iter().skip(start).take(len).cloned().collect())
    });
    let s = state.clone();
    engine.register_fn("join", move |values: &mut Array, between: ImmutableString| {
        s.elements(values)?;
        let mut joined = String::new();
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                joined.push_str(&between);
            }
            joined.push_str(&written(value)?);
            if joined.len() > TEXT_BYTES_MAX {
                return Err(too_large("a text"));
            }
        }
        text(joined)
    });
    let s = state.clone();
    engine.register_fn("sum", move |values: &mut Array| {
        s.elements(values)?;
        let add = |sum: i64, value: &Dynamic| {
            let n = value.as_int().map_err(|kind| fault(format!("{kind} cannot be added")))?;
            sum.checked_add(n).ok_or_else(|| fault("the sum is too large"))
        };
        values.iter().try_fold(0, add)
    });
    for (name, wanted) in [("min", Ordering::Less), ("max", Ordering::Greater)] {
        let s = state.clone();
        engine.register_fn(name, move |values: &mut Array| -> Charged<Dynamic> {
            s.elements(values)?;
            let mut best = values.first().ok_or_else(|| fault("the array is empty"))?;
            for value in values.iter() {
                if compare(value, best)? == wanted {
                    best = value;
                }
            }
            Ok(best.clone())
        });
    }
}

fn changes(state: &Rc<State>, engine: &mut Engine) {
    let s = state.clone();
    engine.register_fn("push", move |values: &mut Array, value: Dynamic| {
        s.fuel.charge_for(&value)?;
        if values.len() >= ARRAY_MAX {
            return Err(too_large("an array"));
        }
        values.push(value);
        Ok(())
    });
    engine.register_fn("pop", |values: &mut Array| values.pop().ok_or_else(|| fault("the array is empty")));
    let s = state.clone();
    engine.register_fn("insert", move |values: &mut Array, at: i64, value: Dynamic| {
        s.elements(values)?;
        if values.len() >= ARRAY_MAX {
            return Err(too_large("an array"));
        }
        let at = position(at, values.len() + 1)?;
        values.insert(at, value);
        Ok(())
    });
    let s = state.clone();
    engine.register_fn("remove", move |values: &mut Array, at: i64| {
        s.elements(values)?;
        let at = position(at, values.len())?;
        Ok::<Dynamic, Box<EvalAltResult>>(values.remove(at))
    });
    let s = state.clone();
    engine.register_fn("sort", move |values: &mut Array| -> Charged<()> {
        // Sorting compares each element about log₂ 512 = 9 times.
        (0..9).try_for_each(|_| s.elements(values))?;
        let mut wrong = None;
        values.sort_by(|a, b| {
            compare(a, b).unwrap_or_else(|error| {
                wrong = Some(error);
                Ordering::Equal
            })
        });
        wrong.map_or(Ok(()), Err)
    });
    let s = state.clone();
    engine.register_fn("reverse", move |values: &mut Array| s.elements(values).map(|()| values.reverse()));
}

fn maps(state: &Rc<State>, engine: &mut Engine) {
    engine.register_fn("len", |map: &mut Map| map.len() as i64);
    engine.register_fn("contains", |map: &mut Map, key: ImmutableString| map.contains_key(key.as_str()));
    engine.register_fn("remove", |map: &mut Map, key: ImmutableString| {
        map.remove(key.as_str()).unwrap_or(Dynamic::UNIT)
    });
    let s = state.clone();
    engine.register_fn("keys", move |map: &mut Map| {
        s.fuel.charge(TEXT_COST * map.len())?;
        array(map.keys().map(|key| Dynamic::from(key.to_string())).collect())
    });
    let s = state.clone();
    engine.register_fn("values", move |map: &mut Map| {
        map.values().try_for_each(|value| s.fuel.charge_for(value))?;
        array(map.values().cloned().collect())
    });
}

fn chance(state: &Rc<State>, engine: &mut Engine) {
    let s = state.clone();
    engine.register_fn("rand", move |low: i64, high: i64| {
        let inside = |n: i64| (-RAND_MAX..=RAND_MAX).contains(&n);
        if low > high || !inside(low) || !inside(high) {
            return Err(fault(format!("rand({low}, {high}) has nothing to draw from")));
        }
        Ok(s.rng.borrow_mut().between(low, high))
    });
    let s = state.clone();
    engine.register_fn("choice", move |values: &mut Array| -> Charged<Dynamic> {
        let chosen = values.get(s.below(values.len())).ok_or_else(|| fault("the array is empty"))?;
        s.fuel.charge_for(chosen)?;
        Ok(chosen.clone())
    });
    let s = state.clone();
    engine.register_fn("shuffle", move |values: &mut Array| -> Charged<()> {
        s.elements(values)?;
        for i in (1..values.len()).rev() {
            values.swap(i, s.below(i + 1));
        }
        Ok(())
    });
    let s = state.clone();
    engine.register_fn("sample", move |values: &mut Array, n: i64| -> Charged<Array> {
        s.elements(values)?;
        let n = usize::try_from(n).ok().filter(|n| *n <= values.len());
        let n = n.ok_or_else(|| fault(format!("there are only {} elements", values.len())))?;
        let mut pool = values.clone();
        for i in 0..n {
            let other = i + s.below(pool.len() - i);
            pool.swap(i, other);
        }
        pool.truncate(n);
        Ok(pool)
    });
}

fn data(state: &Rc<State>, engine: &mut Engine) {
    let s = state.clone();
    engine
        .register_fn("data_len", move |name: ImmutableString| s.data(&name).map(|lines| lines.len() as i64));
    let s = state.clone();
    engine.register_fn("data_line", move |name: ImmutableString, at: i64| {
        let lines = s.data(&name)?;
        let line = &lines[position(at, lines.len())?];
        s.fuel.charge(line.len())?;
        text(line.clone())
    });
}
