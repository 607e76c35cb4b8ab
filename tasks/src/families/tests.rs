//! Independent checks of all families.
