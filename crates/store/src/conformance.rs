//! What every adapter must do: one suite, run on each.
