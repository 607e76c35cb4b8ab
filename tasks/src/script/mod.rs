//! Packs whose items a script makes: `task.rhai` with `fn generate(p)`.
//!
//! ```rhai
//! fn generate(p) {
//!     let a = rand(1, p.max);
//!     let b = rand(1, p.max);
//!     #{ question: `What is ${a} + ${b}?`, answer: a + b }
//! }
//! ```
//!
//! A script runs once, when its pack is opened; what it makes are the lines of a static pack. No peer's text ever
//! reaches a script. Whether a script is valid is decided by *fuel* alone, a count of operations and of the bytes they
//! touch, so all peers agree about it; nothing here knows the time. The engine has no function but those in [`host`].
//!
//! Reading order: this file, [`fuel`], [`host`].

mod fuel;
mod host;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rhai::{AST, Dynamic, Engine, EvalAltResult, Map, Position, Scope};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::{Definition, Param};
use crate::error::{PackError, at};
use crate::files::PackFiles;
use crate::rng::Rng;
use fuel::Fuel;

/// Bytes of a script.
pub const SCRIPT_BYTES_MAX: usize = 16 * 1024;
/// Fuel of one item.
pub const FUEL_ITEM: u64 = 100_000;
/// Fuel of an item on average: what a whole pack may cost is this times its items.
pub const FUEL_AVERAGE: u64 = 4_000;
/// Items of a script's pack.
pub const MADE_MAX: usize = 20_000;
/// Bytes of all its items.
const MADE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of its files in `data/`.
const DATA_BYTES_MAX: usize = 1024 * 1024;
/// Elements of an array, counted through all that are nested in it.
const ARRAY_MAX: usize = 512;
/// Entries of a map, counted the same way.
const MAP_MAX: usize = 256;
/// Bytes of a text, and of all texts in a value.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Calls within calls.
const CALLS_MAX: usize = 16;
/// Expressions within expressions.
const EXPRESSIONS_MAX: usize = 32;
/// Variables of a function, and functions of a script.
const VARIABLES_MAX: usize = 64;
const FUNCTIONS_MAX: usize = 64;
/// What a script has no use for: code from text, limits that are caught, values without a charge.
const DISABLED: [&str; 14] = [
    "eval",
    "print",
    "debug",
    "Fn",
    "call",
    "curry",
    "this",
    "import",
    "export",
    "try",
    "catch",
    "is_shared",
    "private",
    "is_def_var",
];

/// A script and all it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Name of the file, for errors.
    pub file: String,
    /// Its text.
    pub source: String,
    /// Lines of the files in `data/`, by their names.
    pub data: BTreeMap<String, Vec<String>>,
    /// Parameters of each level.
    pub levels: Vec<BTreeMap<String, Param>>,
    /// Items of each level.
    pub count: usize,
}

/// What a script made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Lines of a file of items; no question twice.
    pub items: String,
    /// Items made, those included whose question was there already.
    pub drawn: usize,
    /// Fuel of all of them.
    pub fuel: u64,
    /// Fuel of the one that took most.
    pub fuel_max: u64,
}

impl Program {
    pub(crate) fn of(definition: &Definition, files: &PackFiles) -> Result<Self, PackError> {
        let file = definition.file();
        let Some(source) = files.text(file, SCRIPT_BYTES_MAX)? else {
            return Err(at(
                file,
                0,
                "is missing",
                "write `fn generate(p)` in it; see `murmur task new NAME --script`",
            ));
        };
        let (mut data, mut bytes) = (BTreeMap::new(), 0);
        for (path, content) in files.iter() {
            if let Some(name) = path.strip_prefix("data/") {
                bytes += content.len();
                if bytes > DATA_BYTES_MAX {
                    return Err(at(path, 0, "the files in data/ are too large", "at most 1 MiB together"));
                }
                let text = files.text(path, content.len())?.unwrap_or_default();
                data.insert(name.to_owned(), text.lines().map(str::to_owned).collect());
            }
        }
        let levels = (0..definition.levels()).map(|level| definition.params(level)).collect();
        Ok(Self {
            file: file.into(),
            source: source.into(),
            data,
            levels,
            count: definition.count_per_level(),
        })
    }

    /// Runs the script in this process: the same items on every machine.
    ///
    /// Memory and time stay within what the limits of this module allow; scripts of strangers deserve a process of
    /// their own nevertheless.
    ///
    /// # Errors
    /// What is wrong with the script, with its line; the same on every machine.
    pub fn run(&self) -> Result<Made, PackError> {
        // A script is a stranger's: its size is looked at before the parser does.
        if self.source.len() > SCRIPT_BYTES_MAX {
            let message = format!("{} bytes, at most {SCRIPT_BYTES_MAX} are allowed", self.source.len());
            return Err(at(&self.file, 0, message, "put word lists into data/"));
        }
        let state = Rc::new(host::State::new(self.data.clone()));
        let engine = engine(&state);
        let ast = engine.compile(&self.source).map_err(|error| {
            at(
                &self.file,
                error.position().line().unwrap_or(1),
                error.err_type().to_string(),
                "see the Rhai book, rhai.rs/book",
            )
        })?;
        let mut made = Made::default();
        let mut questions = BTreeSet::new();
        let key = blake3::derive_key("murmur v1 script items", self.source.as_bytes());
        let budget = FUEL_AVERAGE * (self.count * self.levels.len()) as u64;
        for (level, params) in self.levels.iter().enumerate() {
            for index in 0..self.count {
                let parts = [level, index].map(|n| (n as u64).to_le_bytes());
                state.begin(Rng::keyed(&key, &[&parts[0], &parts[1]]));
                let item = self.item(&engine, &ast, level, params, &state);
                let (question, line) = item.map_err(|error| self.in_item(error, level, index))?;
                made.drawn += 1;
                made.fuel += state.fuel.used();
                made.fuel_max = made.fuel_max.max(state.fuel.used());
                if made.fuel > budget {
                    return Err(self.slow(made.drawn));
                }
                if questions.insert(*blake3::hash(question.as_bytes()).as_bytes()) {
                    self.append(&mut made.items, line, level, index)?;
                }
            }
        }
        Ok(made)
    }

    fn append(
        &self,
        items: &mut String,
        mut line: serde_json::Map<String, Value>,
        level: usize,
        index: usize,
    ) -> Result<(), PackError> {
        line.insert("id".into(), format!("{level}-{index}").into());
        line.insert("level".into(), level.into());
        items.push_str(&Value::Object(line).to_string());
        items.push('\n');
        if items.len() > MADE_BYTES_MAX {
            return Err(at(&self.file, 0, "makes more than 8 MiB of items", "lower count under [source]"));
        }
        Ok(())
    }

    /// One item: its question, and its line without id and level.
    fn item(
        &self,
        engine: &Engine,
        ast: &AST,
        level: usize,
        params: &BTreeMap<String, Param>,
        state: &host::State,
    ) -> Result<(String, serde_json::Map<String, Value>), PackError> {
        let mut given: Map =
            params.iter().map(|(name, param)| (name.as_str().into(), dynamic(param))).collect();
        given.insert("level".into(), Dynamic::from_int(level as i64));
        let result = engine.call_fn::<Dynamic>(&mut Scope::new(), ast, "generate", (given,));
        let value = result.map_err(|error| self.runtime(&error, state))?;
        let bad = |message: &str| {
            at(
                &self.file,
                0,
                message,
                "return #{ question: \"…\", answer: … }; trace and choices where they help",
            )
        };
        let map = value.as_map_ref().map_err(|kind| bad(&format!("generate returned {kind}, not a map")))?;
        let known = ["question", "answer", "trace", "choices"];
        if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(bad(&format!("generate returned an unknown field `{key}`")));
        }
        let question = map.get("question").and_then(|question| question.clone().into_string().ok());
        let question = question.ok_or_else(|| bad("generate returned no question"))?;
        let mut line = serde_json::Map::new();
        for (key, value) in map.iter().filter(|(_, value)| !value.is_unit()) {
            let value =
                json(value).ok_or_else(|| bad(&format!("`{key}` is neither text, number nor list")))?;
            line.insert(key.to_string(), value);
        }
        Ok((question, line))
    }

    fn runtime(&self, error: &EvalAltResult, state: &host::State) -> PackError {
        let (error, position) = innermost(error);
        let line = position.line().unwrap_or(1);
        if state.fuel.is_empty() {
            let message = format!("takes more than {FUEL_ITEM} units of fuel for one item");
            return at(
                &self.file,
                line,
                message,
                "does a loop end? make the problem smaller, or its search shorter",
            );
        }
        let hint = match error {
            EvalAltResult::ErrorVariableNotFound(..) => {
                "a function sees its own arguments and variables only"
            }
            EvalAltResult::ErrorFunctionNotFound(..) => "tasks/README.md lists the functions there are",
            EvalAltResult::ErrorDataTooLarge(..) => {
                "texts: 4096 bytes, arrays: 512 elements, maps: 256 entries"
            }
            EvalAltResult::ErrorStackOverflow(..) => "at most 16 calls within calls; use a loop",
            _ => "mend the script",
        };
        let mut error = error.to_string();
        if let Some(end) = error.find(" (line ") {
            error.truncate(end);
        }
        at(&self.file, line, error, hint)
    }

    fn in_item(&self, error: PackError, level: usize, index: usize) -> PackError {
        PackError { message: format!("level {level}, item {index}: {}", error.message), ..error }
    }

    fn slow(&self, drawn: usize) -> PackError {
        let message = format!("generation is slow: the fuel for all items is used up after {drawn}");
        let hint =
            format!("an item may take {FUEL_AVERAGE} units of fuel on average; make the problem smaller");
        at(&self.file, 0, message, hint)
    }
}

/// What happened where, inside the calls it happened in.
fn innermost(error: &EvalAltResult) -> (&EvalAltResult, Position) {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => innermost(inner),
        other => (other, other.position()),
    }
}

fn dynamic(param: &Param) -> Dynamic {
    match param {
        Param::Integer(n) => Dynamic::from_int(*n),
        Param::Bool(yes) => Dynamic::from_bool(*yes),
        Param::Text(text) => Dynamic::from(text.clone()),
    }
}

fn json(value: &Dynamic) -> Option<Value> {
    if let Ok(number) = value.as_int() {
        return Some(number.into());
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Some(text.as_str().into());
    }
    // The size of a value has a limit, which bounds the recursion.
    let values: Option<Vec<Value>> = value.as_array_ref().ok()?.iter().map(json).collect();
    values.map(Value::Array)
}

/// An engine with nothing in it but what [`host`] puts there.
fn engine(state: &Rc<host::State>) -> Engine {
    let mut engine = Engine::new_raw();
    engine.set_max_operations(FUEL_ITEM);
    engine.set_max_call_levels(CALLS_MAX);
    engine.set_max_expr_depths(EXPRESSIONS_MAX, EXPRESSIONS_MAX);
    engine.set_max_variables(VARIABLES_MAX);
    engine.set_max_functions(FUNCTIONS_MAX);
    engine.set_max_string_size(TEXT_BYTES_MAX);
    engine.set_max_array_size(ARRAY_MAX);
    engine.set_max_map_size(MAP_MAX);
    for symbol in DISABLED {
        engine.disable_symbol(symbol);
    }
    Fuel::meter(state, &mut engine);
    host::register(state, &mut engine);
    engine
}
