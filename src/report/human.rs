//! Stub.
use super::{Message, Reporter};
pub struct Human;
impl Reporter for Human {
    fn message(&mut self, message: &Message<'_>) {
        if !matches!(message, Message::Progress { .. }) {
            tracing::warn!("{message:?}");
        }
    }
}
