//! What the dishonest characters do.

use super::adversary::{Acts, Adversary};
use crate::engine::Output;
use crate::topic::Topic;

/// Nothing but heartbeats.
pub(super) struct Silence;

impl Adversary for Silence {
    fn perform(&mut self, output: Output, acts: &mut Acts<'_>) -> Option<Output> {
        match output {
            Output::Publish(topic, _) if topic != Topic::Presence => {
                acts.fire("silence");
                None
            }
            other => Some(other),
        }
    }
}
