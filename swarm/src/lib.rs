//! murmur-swarm
