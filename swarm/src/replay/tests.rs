//! Replays of logs, whole and tampered with.
