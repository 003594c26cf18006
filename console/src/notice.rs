//! Notices of what was done, in the address of the page that shows the result.

use maud::{Markup, html};

use crate::access::seal::{is_sealed, seal};
use crate::context::Context;
use crate::url::encoded;

/// The purpose of the code of a notice, without which a link could show any text.
const PURPOSE: &str = "console/notice";

/// Returns a path with a notice.
pub(crate) fn added(context: &Context, path: &str, notice: &str) -> String {
    let code = seal(&context.shared.secret(), PURPOSE, &[notice.as_bytes()]);
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}done={}&seal={code}", encoded(notice))
}

/// Returns the notice of a request.
pub(crate) fn shown(context: &Context) -> Markup {
    let (notice, code) = (context.query("done"), context.query("seal"));
    let is_own = !notice.is_empty()
        && is_sealed(&context.shared.secret(), PURPOSE, &[notice.as_bytes()], code);
    html! { @if is_own { p.notice role="status" { (notice) } } }
}
