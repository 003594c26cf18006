//! Stable names from Rust names.

/// Returns the part of stored names before the dot: the enum's name in snake case, less `Event`,
/// `Command`, `Rejection` or `Error` if anything is left.
pub(crate) fn prefix(enum_name: &str) -> String {
    let stem = ["Event", "Command", "Rejection", "Error"]
        .iter()
        .find_map(|suffix| enum_name.strip_suffix(suffix).filter(|stem| !stem.is_empty()));
    snake_case(stem.unwrap_or(enum_name))
}

/// Converts to snake case: `OrderPlaced` → `order_placed`, `HTTPCall` → `http_call`,
/// `PlacedV2` → `placed_v2`.
pub(crate) fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut snake = String::with_capacity(name.len() + 4);
    for (i, c) in chars.iter().enumerate() {
        let before = i.checked_sub(1).map(|j| chars[j]);
        let after = chars.get(i + 1);
        let starts_word = before.is_some_and(|before| {
            before.is_lowercase()
                || before.is_numeric()
                || before.is_uppercase() && after.is_some_and(|after| after.is_lowercase())
        });
        if c.is_uppercase() && starts_word {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let golden = [
            ("OrderPlaced", "order_placed"),
            ("HTTPCall", "http_call"),
            ("PlacedV2", "placed_v2"),
            ("V1", "v1"),
            ("A", "a"),
            ("Already_There", "already_there"),
            ("ÄnderungÜber", "änderung_über"),
        ];
        for (name, snake) in golden {
            assert_eq!(snake_case(name), snake);
        }
    }

    #[test]
    fn prefixes() {
        let golden = [
            ("OrderEvent", "order"),
            ("PurchaseOrderCommand", "purchase_order"),
            ("OrderError", "order"),
            ("OrderRejection", "order"),
            ("Event", "event"),
            ("Payments", "payments"),
        ];
        for (name, stem) in golden {
            assert_eq!(prefix(name), stem);
        }
    }
}
