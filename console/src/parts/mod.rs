//! Parts of pages.

pub(crate) mod content;
pub(crate) mod samples;
pub(crate) mod text;
