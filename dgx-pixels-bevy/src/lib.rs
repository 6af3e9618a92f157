//! Sprites.
