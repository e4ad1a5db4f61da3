//! What each command does, one file each.

pub mod admin;
pub mod apply;
pub mod config;
pub mod doctor;
pub mod init;
pub mod journal;
pub mod keys;
pub mod reconcile;
pub mod usage;
