//! The bound on the tag of a request: it is of the type that the sender's variant declares.

/// A request's tag that the variant for the replies of the target `T` declares.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "replies of `{T}` carry a tag of type `{Declared}`",
    label = "the tag here is of type `{Self}`",
    note = "add `.tag(…)` of type `{Declared}`; if that is `()`, leave `.tag(…)` out",
    note = "the fields before the `Reply<{T}>` in its variant are the tag"
)]
pub trait ReplyTag<Declared, T> {
    /// Returns the tag, which has the declared type.
    fn into_tag(self) -> Declared;
}

#[diagnostic::do_not_recommend]
impl<Tag, T> ReplyTag<Tag, T> for Tag {
    fn into_tag(self) -> Tag {
        self
    }
}

/// A request's tag that the variant for the outcomes of the gateway `G` declares.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "outcomes of `{G}` carry a tag of type `{Declared}`",
    label = "the tag here is of type `{Self}`",
    note = "add `.tag(…)` of type `{Declared}`; if that is `()`, leave `.tag(…)` out",
    note = "the fields before the `CallOutcome<{G}>` in its variant are the tag"
)]
pub trait OutcomeTag<Declared, G> {
    /// Returns the tag, which has the declared type.
    fn into_tag(self) -> Declared;
}

#[diagnostic::do_not_recommend]
impl<Tag, G> OutcomeTag<Tag, G> for Tag {
    fn into_tag(self) -> Tag {
        self
    }
}
