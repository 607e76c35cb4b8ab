//! Prompts and completions as ids. For a model that chats a task becomes the user's turn, and its completion is what
//! the assistant says.
//!
//! There the end token closes the turn and is no part of the text; it is sampled, trained and scored like any other.

use std::sync::Arc;

use crate::chat::{ChatTemplate, Message};
use crate::error::Result;
use crate::policy::Policy;
use crate::tokenizer::guard;

/// How a policy puts prompts to its model.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    template: Arc<ChatTemplate>,
    system: Option<Arc<str>>,
    /// The id with which the assistant's turn ends.
    end: u32,
}

impl Conversation {
    fn messages(&self, prompt: &str) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new("system", &**text));
        // Packs come from strangers: a question that spells a control token must not become one.
        system.chain([Message::new("user", guard(prompt))]).collect()
    }
}

impl Policy {
    /// Puts every prompt to the model through its chat template, as the user's turn after what `system` says.
    /// Samples, scores and lessons all see it so.
    ///
    /// # Errors
    /// The template refuses such a conversation.
    pub fn with_chat(mut self, template: ChatTemplate, system: Option<&str>) -> Result<Self> {
        let mut chat = Conversation {
            template: Arc::new(template),
            system: system.map(Arc::from),
            end: self.config().eos_token_ids.first().copied().unwrap_or_default(),
        };
        // Of several end tokens the template shows which one ends a turn.
        let mut turns = chat.messages("x");
        turns.push(Message::new("assistant", "x"));
        let ids = self.encode_chat(&chat.template, &turns, false)?;
        let ends = &self.config().eos_token_ids;
        chat.end = ids.into_iter().rfind(|id| ends.contains(id)).unwrap_or(chat.end);
        self.encode_chat(&chat.template, &chat.messages("x"), true)?;
        self.set_conversation(chat);
        Ok(self)
    }

    /// The template through which prompts are put, if there is one.
    pub fn chat(&self) -> Option<&ChatTemplate> {
        self.conversation().map(|chat| &*chat.template)
    }

    /// Ids of a prompt: the begin token first, or as the chat template has it.
    pub(crate) fn prompt_ids(&self, prompt: &str) -> Result<Vec<u32>> {
        let ids = match self.conversation() {
            Some(chat) => self.chat_prompt(chat, prompt)?,
            None => {
                let begin = self.config().bos_token_id.into_iter();
                begin.chain(self.encode_exactly(prompt)?).collect()
            }
        };
        self.check_prompt(&ids)?;
        Ok(ids)
    }

    /// Ids of a completion; `None` for silence and for text that the model cannot have said.
    pub(crate) fn completion_ids(&self, completion: &str) -> Option<Vec<u32>> {
        if let Some(chat) = self.conversation() {
            return self.chat_completion(chat, completion);
        }
        let (pad, bos) = (self.config().pad_token_id, self.config().bos_token_id);
        let ids = self.codec().encode_exact(completion)?;
        let speaks = !ids.is_empty() && !ids.iter().any(|id| [pad, bos].contains(&Some(*id)));
        speaks.then_some(ids)
    }

    /// Ids of a prompt as a conversation that waits for the assistant.
    fn chat_prompt(&self, chat: &Conversation, prompt: &str) -> Result<Vec<u32>> {
        self.encode_chat(&chat.template, &chat.messages(prompt), true)
    }

    /// Ids of what an assistant said, its end token included; `None` for silence.
    fn chat_completion(&self, chat: &Conversation, text: &str) -> Option<Vec<u32>> {
        let mut ids = self.codec().encode_said(text);
        let speaks = !ids.is_empty();
        ids.push(chat.end);
        speaks.then_some(ids)
    }
}
