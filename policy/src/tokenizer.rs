//! Text to token ids and back, through Hugging Face's `tokenizer.json`.
//!
//! The embedded bases read one token per printable ASCII character plus nine markers. The file is generated
//! here, so that Python's transformers and this crate agree on every id: a `WordLevel` table, markers as
//! added tokens, a `Split` on every character (spaces included), and a `Fuse` decoder that joins without
//! inserting anything. The template puts `<bos>` before text only when special tokens are asked for.

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

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

/// A tokenizer and the file it came from.
pub(crate) struct Codec {
    json: String,
    inner: Tokenizer,
}

impl Codec {
    /// Reads the text of a `tokenizer.json`; the error is the library's own sentence.
    pub(crate) fn from_json(json: String) -> Result<Self, String> {
        // The library panics over some malformed files (a decoder without a type), and files come from strangers.
        let inner = std::panic::catch_unwind(|| Tokenizer::from_bytes(json.as_bytes()))
            .map_err(|_| "not a tokenizer of a known form".to_owned())?
            .map_err(|e| e.to_string())?;
        Ok(Self { json, inner })
    }

    /// The file's text, as loaded.
    pub(crate) fn json(&self) -> &str {
        &self.json
    }

    /// Number of ids, markers and gaps included: one more than the largest.
    pub(crate) fn vocab_size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// Ids of the text without any template; characters outside the alphabet become the unknown token.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        self.inner.encode_fast(text, false).map_or_else(|_| Vec::new(), |e| e.get_ids().to_vec())
    }

    /// Ids of the text, or `None` when the ids would not spell exactly this text again.
    pub(crate) fn encode_exact(&self, text: &str) -> Option<Vec<u32>> {
        let ids = self.encode(text);
        (self.decode(&ids) == text).then_some(ids)
    }

    /// Text of the ids, markers spelled out.
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
}
