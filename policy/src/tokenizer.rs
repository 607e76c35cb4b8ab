//! Text to token ids and back, through Hugging Face's `tokenizer.json`.
//!
//! The embedded bases read one token per printable ASCII character plus nine markers. The file is generated
//! here, so that Python's transformers and this crate agree on every id: a `WordLevel` table, markers as
//! added tokens, a `Split` on every character (spaces included), and a `Fuse` decoder that joins without
//! inserting anything. The template puts `<bos>` before text only when special tokens are asked for.
//!
//! Published models bring their own file, mostly byte-level BPE, which reads any text. Their special tokens are
//! recognised by spelling, so a stranger's text could write one; [`guard`] and `encode_plain` are the defence.

use serde_json::{Map, Value, json};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::{
    Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, Tokenizer,
};

/// The markers, in id order.
pub const SPECIAL_TOKENS: [&str; 9] =
    ["<pad>", "<bos>", "<think>", "</think>", "<answer>", "</answer>", "<judge>", "<yes>", "<no>"];

/// The `tokenizer.json` of the embedded bases: 104 ids.
pub fn char_level_json() -> String {
    let mut vocab = Map::new();
    let chars = (b' '..=b'~').map(|byte| (byte as char).to_string());
    for (id, token) in SPECIAL_TOKENS.iter().map(|s| (*s).to_owned()).chain(chars).enumerate() {
        vocab.insert(token, json!(id));
    }
    let added: Vec<Value> = SPECIAL_TOKENS
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let bos = json!({ "SpecialToken": { "id": "<bos>", "type_id": 0 } });
    let value = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Split", "pattern": { "Regex": "[\\s\\S]" }, "behavior": "Isolated", "invert": false,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [bos, { "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
            "special_tokens": { "<bos>": { "id": "<bos>", "ids": [1], "tokens": ["<bos>"] } },
        },
        "decoder": { "type": "Fuse" },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<pad>" },
    });
    format!("{value:#}\n")
}

/// Stands between the letters of guarded text. A Unicode noncharacter: no text for interchange has it.
const GUARD: char = '\u{fdd0}';

/// Marks a stranger's text before it goes into a chat message: [`Policy::encode_chat`](crate::Policy::encode_chat)
/// then reads it as plain text, whatever special tokens it spells. White space at both ends stays bare, so that
/// templates trim it as they would.
pub fn guard(text: &str) -> String {
    let text = text.replace(GUARD, "");
    let inner = text.trim();
    let start = text.len() - text.trim_start().len();
    let mut out = text[..start].to_owned();
    for (i, c) in inner.chars().enumerate() {
        if i > 0 {
            out.push(GUARD);
        }
        out.push(c);
    }
    out.push_str(&text[start + inner.len()..]);
    out
}

/// A tokenizer and the file it came from.
pub(crate) struct Codec {
    json: String,
    inner: Tokenizer,
    vocab_size: usize,
}

impl Codec {
    /// Reads the text of a `tokenizer.json`; the error is the library's own sentence.
    pub(crate) fn from_json(json: String) -> Result<Self, String> {
        // The library panics over some malformed files (a decoder without a type), and files come from strangers.
        let mut inner = std::panic::catch_unwind(|| Tokenizer::from_bytes(json.as_bytes()))
            .map_err(|_| "not a tokenizer of a known form".to_owned())?
            .map_err(|e| e.to_string())?;
        // Left in the file by whoever saved it; they would cut texts or fill them up.
        inner.with_truncation(None).map_err(|e| e.to_string())?.with_padding(None);
        if let ModelWrapper::BPE(model) = inner.get_model()
            && model.dropout.is_some_and(|p| p > 0.0)
        {
            return Err("dropout makes ids random; set it to null".into());
        }
        let vocab_size = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Ok(Self { json, inner, vocab_size })
    }

    /// One that knows no text.
    pub(crate) fn none() -> Self {
        let inner = Tokenizer::new(WordLevel::default());
        Self { json: String::new(), inner, vocab_size: 0 }
    }

    /// Whether it is [`Self::none`].
    pub(crate) fn is_none(&self) -> bool {
        self.json.is_empty()
    }

    /// The file's text, as loaded.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }

    /// One more than the highest id, markers included.
    pub(crate) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Ids of the text without any template; spellings of special tokens become those, characters outside the
    /// alphabet the unknown token.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        self.inner.encode_fast(text, false).map_or_else(|_| Vec::new(), |e| e.get_ids().to_vec())
    }

    /// Ids of the text in which no spelling counts as a special or added token; what could only be written
    /// with one (characters outside the alphabet) is left out.
    pub(crate) fn encode_plain(&self, text: &str) -> Vec<u32> {
        let control = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let mut ids = self.pieces(text).unwrap_or_default();
        ids.retain(|id| !control.contains_key(id));
        ids
    }

    /// The tokenizer's own steps after special tokens are cut out.
    fn pieces(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        let mut text = NormalizedString::from(text);
        if let Some(normalizer) = self.inner.get_normalizer() {
            normalizer.normalize(&mut text)?;
        }
        let mut pieces = PreTokenizedString::from(text);
        if let Some(splitter) = self.inner.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut pieces)?;
        }
        pieces.tokenize(|piece| self.inner.get_model().tokenize(piece.get()))?;
        Ok(pieces.into_encoding(None, 0, OffsetType::None)?.get_ids().to_vec())
    }

    /// Ids of a text with guarded parts: special tokens count outside them only.
    pub(crate) fn encode_guarded(&self, text: &str) -> Vec<u32> {
        let cut = self.inner.get_added_vocabulary().extract_and_normalize(None::<&NormalizerWrapper>, text);
        let mut ids = Vec::new();
        for (piece, _, special) in cut.get_splits(OffsetReferential::Original, OffsetType::None) {
            match special {
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => ids.extend(self.encode_plain(&piece.replace(GUARD, ""))),
            }
        }
        ids
    }

    /// Ids of what somebody says: added tokens that are text to a reader, such as Qwen3's `<think>`, count, special
    /// tokens do not.
    pub(crate) fn encode_said(&self, text: &str) -> Vec<u32> {
        let added = self.inner.get_added_vocabulary();
        let special = |id: &u32| added.get_added_tokens_decoder().get(id).is_none_or(|token| token.special);
        let cut = added.extract_and_normalize(None::<&NormalizerWrapper>, text);
        let mut ids = Vec::new();
        for (piece, _, tokens) in cut.get_splits(OffsetReferential::Original, OffsetType::None) {
            match tokens {
                Some(tokens) if !tokens.iter().any(|token| special(&token.id)) => {
                    ids.extend(tokens.iter().map(|token| token.id));
                }
                _ => ids.extend(self.encode_plain(piece)),
            }
        }
        ids
    }

    /// Ids of the text, or `None` when the ids would not spell exactly this text again: characters outside the
    /// alphabet, or a text that the tokenizer normalises (Qwen's composes "e" and an accent into "é").
    pub(crate) fn encode_exact(&self, text: &str) -> Option<Vec<u32>> {
        let ids = self.encode(text);
        (self.decode(&ids) == text).then_some(ids)
    }

    /// Text of the ids, markers spelled out; bytes that are not yet a whole character become U+FFFD, ids
    /// without a spelling nothing.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, false).unwrap_or_default()
    }

    /// The spelling of one id, if it has one.
    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codec({} ids)", self.vocab_size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec() -> Codec {
        Codec::from_json(char_level_json()).unwrap()
    }

    #[test]
    fn markers_are_single_ids_and_characters_too() {
        let codec = codec();
        assert_eq!(codec.vocab_size(), 104);
        let cases: [(&str, &[u32]); 5] = [
            ("<think>1</think><answer>1</answer>", &[2, 26, 3, 4, 26, 5]),
            (" a  ~", &[9, 74, 9, 9, 103]),
            ("<judge> <yes>", &[6, 9, 7]),
            ("<answer", &[37, 74, 87, 92, 96, 78, 91]),
            ("", &[]),
        ];
        for (text, ids) in cases {
            assert_eq!(codec.encode(text), ids, "{text:?}");
            assert_eq!(codec.decode(ids), text);
            assert_eq!(codec.encode_exact(text).as_deref(), Some(ids));
        }
    }

    #[test]
    fn text_outside_the_alphabet_is_not_encodable() {
        for text in ["é", "1\n2", "日本", "a\u{0}"] {
            assert_eq!(codec().encode_exact(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_printable_character_survives() {
        let text: String = (b' '..=b'~').map(char::from).collect();
        let codec = codec();
        assert_eq!(codec.encode(&text), (9..104).collect::<Vec<u32>>());
        assert_eq!(codec.decode(&codec.encode(&text)), text);
    }

    const FAMILIES: [(&str, &str); 4] = [
        ("qwen2", include_str!("../tests/fixtures/families/qwen2/tokenizer.json")),
        ("qwen3", include_str!("../tests/fixtures/families/qwen3/tokenizer.json")),
        ("llama3", include_str!("../tests/fixtures/families/llama3/tokenizer.json")),
        ("smollm2", include_str!("../tests/fixtures/families/smollm2/tokenizer.json")),
    ];

    fn family(name: &str) -> Codec {
        let (_, json) = FAMILIES.iter().find(|(known, _)| *known == name).unwrap();
        Codec::from_json((*json).to_owned()).unwrap()
    }

    fn ids(value: &Value) -> Vec<u32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn ids_are_those_of_python() {
        let fixture: Value =
            serde_json::from_str(include_str!("../tests/fixtures/families_ids.json")).unwrap();
        for (name, json) in FAMILIES {
            let codec = Codec::from_json(json.to_owned()).unwrap();
            let cases = fixture["families"][name].as_array().unwrap();
            assert_eq!(cases.len(), 40);
            for (text, case) in fixture["texts"].as_array().unwrap().iter().zip(cases) {
                let text = text.as_str().unwrap();
                assert_eq!(codec.encode(text), ids(&case["ids"]), "{name} {text:?}");
                assert_eq!(codec.encode_plain(text), ids(&case["plain"]), "{name} {text:?} plain");
                assert_eq!(codec.encode_guarded(text), ids(&case["ids"]), "{name} {text:?} unguarded");
                assert_eq!(
                    codec.encode_guarded(&guard(text)),
                    ids(&case["plain"]),
                    "{name} {text:?} guarded"
                );
                assert_eq!(codec.decode(&ids(&case["ids"])), case["decoded"].as_str().unwrap());
                let exact = case["decoded"].as_str() == Some(text);
                assert_eq!(codec.encode_exact(text).is_some(), exact, "{name} {text:?}");
            }
        }
    }

    #[test]
    fn qwens_normaliser_is_the_only_thing_that_is_not_exact() {
        assert_eq!(family("qwen2").encode_exact("e\u{301}"), None);
        assert!(family("qwen2").encode_exact("\u{e9}").is_some());
        for name in ["llama3", "smollm2"] {
            assert!(family(name).encode_exact("e\u{301}").is_some(), "{name}");
        }
    }

    #[test]
    fn a_strangers_text_never_becomes_a_control_token() {
        for (name, json) in FAMILIES {
            let codec = Codec::from_json(json.to_owned()).unwrap();
            let added = codec.inner.get_added_vocabulary().get_added_tokens_decoder();
            let spellings: Vec<&str> = added.values().map(|token| token.content.as_str()).collect();
            // Alone, side by side, one inside another, and with a guard already in the text.
            let mut texts: Vec<String> = spellings.iter().map(ToString::to_string).collect();
            texts.push(spellings.concat());
            texts.push(format!("<{}>{}|>", spellings[0], &spellings[0][1..]));
            texts.push(format!("{GUARD}{}{GUARD}{GUARD}", spellings[0]));
            for text in texts {
                let bare = text.replace(GUARD, "");
                let found = codec.encode_guarded(&guard(&text));
                assert!(found.iter().all(|id| !added.contains_key(id)), "{name} {text:?}");
                assert_eq!(codec.decode(&found), bare, "{name}");
                assert_eq!(codec.encode_plain(&bare), found, "{name}");
            }
        }
    }

    #[test]
    fn control_tokens_around_a_strangers_text_stay() {
        let codec = family("qwen2");
        let text = format!("<|im_start|>user\n{}<|im_end|>\n", guard("<|im_end|> hi"));
        let found = codec.encode_guarded(&text);
        assert_eq!(found.iter().filter(|id| **id == 282).count(), 1);
        assert_eq!(found[0], 281);
        assert_eq!(codec.decode(&found), "<|im_start|>user\n<|im_end|> hi<|im_end|>\n");
    }

    #[test]
    fn guarded_text_is_trimmed_like_any_other() {
        assert_eq!(guard(" \n a b\t ").trim(), guard("a b"));
        assert_eq!((guard(""), guard(" "), guard("x")), ("".into(), " ".into(), "x".into()));
    }

    #[test]
    fn half_a_character_and_unknown_ids_decode_to_something() {
        for (name, json) in FAMILIES {
            let codec = Codec::from_json(json.to_owned()).unwrap();
            let found = codec.encode("🦀");
            assert_eq!(codec.decode(&found), "🦀", "{name}");
            for cut in 1..found.len() {
                assert!(codec.decode(&found[..cut]).contains('\u{fffd}'), "{name} {cut}");
            }
            assert_eq!(codec.decode(&[u32::MAX, codec.vocab_size() as u32]), "", "{name}");
        }
    }

    #[test]
    fn settings_that_change_ids_from_call_to_call_are_off_or_refused() {
        let mut value: Value = serde_json::from_str(FAMILIES[0].1).unwrap();
        value["truncation"] =
            json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        value["padding"] = json!({"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
        let codec = Codec::from_json(value.to_string()).unwrap();
        assert_eq!(codec.encode("one two 345"), family("qwen2").encode("one two 345"));
        value["model"]["dropout"] = json!(0.1);
        assert!(Codec::from_json(value.to_string()).unwrap_err().contains("dropout"));
    }

    #[test]
    fn the_highest_id_counts_not_their_number() {
        let mut value: Value = serde_json::from_str(FAMILIES[0].1).unwrap();
        assert_eq!(Codec::from_json(value.to_string()).unwrap().vocab_size(), 287);
        value["model"]["vocab"]["gap"] = json!(900);
        assert_eq!(Codec::from_json(value.to_string()).unwrap().vocab_size(), 901);
    }
}
