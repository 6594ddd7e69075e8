//! A registry to try the operator with.
fn main() {}
