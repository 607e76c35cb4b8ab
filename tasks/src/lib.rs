//! murmur-tasks
