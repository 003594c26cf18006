//! The fields of a form.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::context::Context;
use crate::failure::Failure;
use crate::url::is_own_path;

/// The name of the field with the code that only the console's pages contain.
pub(crate) const CODE: &str = "code";
/// The name of the field that confirms a change.
pub(crate) const CONFIRMED: &str = "confirmed";

/// The fields of a form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Form(pub(crate) BTreeMap<String, String>);

impl Form {
    /// Returns a field, without spaces around it; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.trim())
    }

    /// Returns a field; `None` if it is empty.
    pub(crate) fn given(&self, name: &str) -> Option<String> {
        Some(self.field(name)).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Returns a field as another type.
    pub(crate) fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<T, Failure> {
        let text = self.field(name);
        text.parse().map_err(|_| Failure::invalid(name, text))
    }

    /// Returns a field that must not be empty.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Failure> {
        Some(self.field(name))
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Failure::invalid(name, ""))
    }

    /// Returns the path of the page from which the form was sent.
    pub(crate) fn then(&self, default: &str) -> String {
        self.given("then").filter(|to| is_own_path(to)).unwrap_or_else(|| default.to_owned())
    }

    /// Returns the reason that the operator gives.
    pub(crate) fn reason(&self) -> &str {
        self.field("reason")
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.field(CONFIRMED) == "yes"
    }
}

/// Returns a button that posts these fields; nothing if the user may not make changes.
pub(crate) fn button(context: &Context, label: &str, to: &str, fields: &[(&str, &str)]) -> Markup {
    html! {
        @if context.may_change() {
            form.inline method="post" action=(context.link(to)) {
                (hidden(context, fields))
                button type="submit" { (label) }
            }
        }
    }
}

/// Returns hidden fields, with the code of the user's forms.
pub(crate) fn hidden(context: &Context, fields: &[(&str, &str)]) -> Markup {
    html! {
        input type="hidden" name=(CODE) value=(context.form_code());
        @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
    }
}
