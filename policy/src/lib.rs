//! murmur-policy
