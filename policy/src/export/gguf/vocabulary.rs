//! A `tokenizer.json` as llama.cpp's vocabulary of kind `gpt2` (byte-level BPE).
//!
//! llama.cpp knows splitting rules by name only; what has no name there is refused, since it would be read
//! without an error and give other ids. A vocabulary of single ASCII characters is byte-level BPE that never
//! merges anything.

use serde_json::Value as Json;
use tokenizers::Tokenizer;

use super::container::Value;
use crate::config::ModelConfig;
use crate::export::BaseFiles;

const QWEN2_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How byte-level vocabularies spell a space.
const SPACE: &str = "Ġ";

/// llama.cpp's `llama_token_type`.
#[derive(Clone, Copy)]
enum TokenType {
    Normal = 1,
    /// Not printed, and read in a text only on demand.
    Control = 3,
    /// Always read in a text as one token, and printed.
    UserDefined = 4,
    Unused = 5,
}

/// Tokens and what joins them.
struct Vocabulary {
    /// llama.cpp's name of the rule that splits a text into words.
    pre: &'static str,
    /// Spelling and type by id; ids without a token have none.
    tokens: Vec<Option<(String, TokenType)>>,
    /// Pairs to be joined, separated by a space, first ones first.
    merges: Vec<String>,
}

/// The keys `tokenizer.*`; an error is a sentence about `tokenizer.json`.
pub(super) fn metadata(
    tokenizer: &str,
    config: &ModelConfig,
    base: &BaseFiles,
) -> Result<Vec<(String, Value)>, String> {
    let json: Json = serde_json::from_str(tokenizer).map_err(|error| format!("not JSON: {error}"))?;
    let vocabulary = read(&json, config)?;
    let (tokens, types) = vocabulary.spelled();
    let frame = frame(tokenizer)?;
    let special = |name: &str| {
        let spelling = base.special_token(name)?;
        tokens.iter().position(|token| *token == spelling).and_then(|id| u32::try_from(id).ok())
    };
    let pad = config.pad_token_id.or_else(|| special("pad_token"));
    let mut ends = ends(config, special("eos_token")).into_iter();
    let mut metadata = vec![
        ("tokenizer.ggml.model", Value::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Value::Text(vocabulary.pre.into())),
        ("tokenizer.ggml.tokens", Value::Texts(tokens)),
        ("tokenizer.ggml.token_type", Value::I32s(types)),
        ("tokenizer.ggml.merges", Value::Texts(vocabulary.merges)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(frame.begin.is_some())),
        ("tokenizer.ggml.add_eos_token", Value::Bool(frame.end.is_some())),
    ];
    let ids = [
        ("tokenizer.ggml.bos_token_id", frame.begin.or(config.bos_token_id)),
        ("tokenizer.ggml.padding_token_id", pad),
        ("tokenizer.ggml.eos_token_id", ends.next()),
        ("tokenizer.ggml.eot_token_id", ends.next()),
        ("tokenizer.ggml.eom_token_id", ends.next()),
    ];
    metadata.extend(ids.into_iter().filter_map(|(key, id)| Some((key, Value::U32(id?)))));
    if let Some(template) = base.chat_template() {
        metadata.push(("tokenizer.chat_template", Value::Text(template.to_owned())));
    }
    Ok(metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Ids that end a completion, first the one that ends texts by the tokenizer's settings. llama.cpp has three
/// names for them, and stops at each.
fn ends(config: &ModelConfig, of_text: Option<u32>) -> Vec<u32> {
    let mut ends = config.eos_token_ids.clone();
    ends.sort_by_key(|id| Some(*id) != of_text);
    ends
}

impl Vocabulary {
    /// Spellings and types of all ids of the model.
    fn spelled(&self) -> (Vec<String>, Vec<i32>) {
        let token = |(id, token): (usize, &Option<(String, TokenType)>)| match token {
            Some((text, kind)) => (text.clone(), *kind as i32),
            None => (format!("[PAD{id}]"), TokenType::Unused as i32),
        };
        self.tokens.iter().enumerate().map(token).unzip()
    }

    fn set(&mut self, id: &Json, text: &str, kind: TokenType) -> Result<(), String> {
        let place = id.as_u64().and_then(|id| self.tokens.get_mut(usize::try_from(id).ok()?));
        *place.ok_or_else(|| format!("token {text:?} has the id {id}, beyond the model's"))? =
            Some((text.to_owned(), kind));
        Ok(())
    }
}

fn read(json: &Json, config: &ModelConfig) -> Result<Vocabulary, String> {
    match &json["normalizer"] {
        Json::Null => {}
        // llama.cpp reads text as it comes; composed text, which is nearly all, is unchanged by this one.
        normalizer if normalizer["type"] == "NFC" => {}
        other => return Err(format!("llama.cpp knows no normalizer {}", other["type"])),
    }
    let model = &json["model"];
    let mut vocabulary = Vocabulary { pre: "", tokens: vec![None; config.vocab_size], merges: Vec::new() };
    match model["type"].as_str() {
        Some("BPE") => read_bpe(json, &mut vocabulary)?,
        Some("WordLevel") => read_characters(json, &mut vocabulary)?,
        _ => {
            return Err(format!(
                "a GGUF is written for BPE and single characters, not for {}",
                model["type"]
            ));
        }
    }
    for token in json["added_tokens"].as_array().into_iter().flatten() {
        let text = token["content"].as_str().ok_or("an added token has no content")?;
        vocabulary.set(&token["id"], text, added_type(token, text, model, config))?;
    }
    Ok(vocabulary)
}

/// As llama.cpp's converter decides. Markers of a model of single characters are its words, so they are
/// printed; only what stands for nothing in the text is not.
fn added_type(token: &Json, text: &str, model: &Json, config: &ModelConfig) -> TokenType {
    let id = token["id"].as_u64();
    let silent =
        [config.bos_token_id, config.pad_token_id].iter().flatten().any(|i| id == Some(u64::from(*i)));
    let special = if model["type"] == "WordLevel" {
        silent
    } else {
        token["special"] == true || (text.starts_with("<|") && text.ends_with("|>"))
    };
    if special { TokenType::Control } else { TokenType::UserDefined }
}

fn vocab(model: &Json) -> Result<&serde_json::Map<String, Json>, String> {
    model["vocab"].as_object().ok_or_else(|| "the model has no vocab".to_owned())
}

fn read_bpe(json: &Json, vocabulary: &mut Vocabulary) -> Result<(), String> {
    let model = &json["model"];
    for field in ["dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"] {
        if !(model[field].is_null() || model[field] == false || model[field] == "") {
            return Err(format!("llama.cpp knows no BPE with {field} {}", model[field]));
        }
    }
    vocabulary.pre = split_name(&json["pre_tokenizer"])
        .ok_or("llama.cpp has no name for its pre_tokenizer (known: Qwen2, Llama 3, SmolLM, GPT-2)")?;
    for (text, id) in vocab(model)? {
        vocabulary.set(id, text, TokenType::Normal)?;
    }
    let merges = model["merges"].as_array().ok_or("the model has no merges")?;
    vocabulary.merges = merges.iter().map(merge).collect::<Option<_>>().ok_or("a merge is not a pair")?;
    Ok(())
}

/// Both spellings that `tokenizer.json` has had: `"a b"` and `["a", "b"]`.
fn merge(pair: &Json) -> Option<String> {
    match pair.as_array() {
        None => pair.as_str().map(str::to_owned),
        Some(pair) => match pair.as_slice() {
            [a, b] => Some(format!("{} {}", a.as_str()?, b.as_str()?)),
            _ => None,
        },
    }
}

fn split_name(pre_tokenizer: &Json) -> Option<&'static str> {
    let steps = match pre_tokenizer["pretokenizers"].as_array() {
        Some(steps) => steps.as_slice(),
        None => std::slice::from_ref(pre_tokenizer),
    };
    let bytes = |step: &Json, splits: bool| {
        step["type"] == "ByteLevel" && step["add_prefix_space"] == false && step["use_regex"] == splits
    };
    match steps {
        [one] if bytes(one, true) => Some("gpt-2"),
        [digits, last] if bytes(last, true) => {
            (digits["type"] == "Digits" && digits["individual_digits"] == true).then_some("smollm")
        }
        [split, last] if bytes(last, false) && isolates(split) => match split["pattern"]["Regex"].as_str() {
            Some(QWEN2_SPLIT) => Some("qwen2"),
            Some(LLAMA3_SPLIT) => Some("llama-bpe"),
            _ => None,
        },
        _ => None,
    }
}

fn isolates(split: &Json) -> bool {
    split["type"] == "Split" && split["behavior"] == "Isolated" && split["invert"] == false
}

fn read_characters(json: &Json, vocabulary: &mut Vocabulary) -> Result<(), String> {
    let split = &json["pre_tokenizer"];
    if !(isolates(split) && split["pattern"]["Regex"] == r"[\s\S]") {
        return Err("llama.cpp has no name for the pre_tokenizer of this word-level model".into());
    }
    let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    for (text, id) in vocab(&json["model"])? {
        if added.iter().any(|token| token["content"] == text.as_str()) {
            continue;
        }
        let spelling = match text.as_bytes() {
            b" " => SPACE,
            [b'!'..=b'~'] => text,
            _ => return Err(format!("word-level token {text:?} is not one printable ASCII character")),
        };
        vocabulary.set(id, spelling, TokenType::Normal)?;
    }
    // Any rule will do where nothing is joined within a word.
    vocabulary.pre = "gpt-2";
    Ok(())
}

/// Ids that the tokenizer's template puts around a text.
struct Frame {
    begin: Option<u32>,
    end: Option<u32>,
}

fn frame(tokenizer: &str) -> Result<Frame, String> {
    let tokenizer = Tokenizer::from_bytes(tokenizer).map_err(|error| error.to_string())?;
    let encoded = tokenizer.encode_fast("a", true).map_err(|error| error.to_string())?;
    let bare = tokenizer.encode_fast("a", false).map_err(|error| error.to_string())?;
    let (ids, bare) = (encoded.get_ids(), bare.get_ids());
    let at = ids.windows(bare.len().max(1)).position(|window| window == bare);
    let around = at.map(|at| (&ids[..at], &ids[at + bare.len()..]));
    match around {
        Some((begin, end)) if begin.len() <= 1 && end.len() <= 1 => {
            Ok(Frame { begin: begin.first().copied(), end: end.first().copied() })
        }
        _ => Err("its post_processor puts more around a text than one token at either end".into()),
    }
}
