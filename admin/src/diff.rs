//! Differences between two states.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

/// A difference between two JSON values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The path of the value, such as `lines[2].count`; empty for the whole.
    pub path: String,
    /// The value before; `None` if there was none.
    pub before: Option<Value>,
    /// The value after; `None` if there is none.
    pub after: Option<Value>,
}

/// Returns the differences between two values, in order of their paths.
pub(crate) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (Some(one), Some(other)) if one == other => {}
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, one.get(key), other.get(key), found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            for n in 0..one.len().max(other.len()) {
                compare(&format!("{path}[{n}]"), one.get(n), other.get(n), found);
            }
        }
        (before, after) => found.push(Difference {
            path: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_paths_of_changed_values() {
        let before = serde_json::json!({"a": 1, "lines": [{"n": 1}, {"n": 2}], "gone": true});
        let after = serde_json::json!({"a": 1, "lines": [{"n": 1}, {"n": 3}, {"n": 4}], "new": 5});
        let found = differences(&before, &after);
        let paths: Vec<_> = found.iter().map(|of| &*of.path).collect();
        assert_eq!(paths, ["gone", "lines[1].n", "lines[2]", "new"]);
        assert_eq!((&found[0].after, &found[3].before), (&None, &None));
        assert_eq!(found[1].before, Some(2.into()));
        assert_eq!(differences(&before, &before), []);
        assert_eq!(differences(&1.into(), &2.into())[0].path, "");
    }
}
