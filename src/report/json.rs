//! JSON lines.
pub struct Json;
