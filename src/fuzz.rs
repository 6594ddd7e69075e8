//! Fuzz targets: each is an ordinary test with a fixed number of inputs, and the same under libFuzzer by `make fuzz`.
//!
//! An input says what becomes of something honest: a fake's reply, a stored record. So most inputs get past the first check.

mod damage;
mod kept;
mod replies;
mod validation;

/// Inputs of a target that takes microseconds for each.
const MANY: usize = 4000;
/// Inputs of a target that goes through a whole exchange for each.
const SOME: usize = 400;
