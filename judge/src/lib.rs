//! murmur-judge
