//! An error with all that lies behind it, as one text.

use std::error::Error;

/// Tells an error and its causes, but no cause whose words have been said already.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let (mut told, mut next) = (String::new(), Some(error));
    while let Some(error) = next {
        let cause = error.to_string();
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
        next = error.source();
    }
    told
}
