//! The builder of an aggregate's handlers.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use composable_rust_core::message::MessageKind;
use composable_rust_core::schema::{JsonSchemas, SchemaTracer};
use composable_rust_core::{Aggregate, Id, Message, Version};
use composable_rust_runtime::App;
use serde::Serialize;

use super::access::{Access, Authorization};
use super::{command, events, history, state};
use crate::{Problem, path_segment};

/// The JSON text of a state; `None` if the instance does not exist for readers.
pub(crate) type View<A> =
    Arc<dyn Fn(&Id<A>, &A, Version) -> Option<Result<Vec<u8>, serde_json::Error>> + Send + Sync>;

/// The part of the builder that all handlers share.
pub(crate) struct Exposed<A: Aggregate> {
    pub(crate) app: App,
    pub(crate) authorization: Authorization<A>,
    pub(crate) schemas: JsonSchemas,
    pub(crate) requires_key: bool,
}

/// An aggregate without a decision on who may use its handlers.
#[derive(Debug, Clone)]
pub struct Unprotected<A> {
    app: App,
    of: std::marker::PhantomData<fn() -> A>,
}

/// Begins the ready handlers of an aggregate. None is exposed until it is named, and none can be
/// named before [`authorize`](Unprotected::authorize) or [`public`](Unprotected::public) has said
/// who may use it.
///
/// | Request | Named by | Response |
/// |---|---|---|
/// | `POST /{id}/{command}` | `commands`, `all_commands` | [`Sent`](crate::Sent) |
/// | `GET /{id}`, `?version=3` | `state`, `state_with` | the state, with its version as `ETag` |
/// | `GET /{id}/history`, `?after=0&limit=100` | `history` | a page of events |
/// | `GET /{id}/events`, `?after=0` | `events` | the events as they are committed (SSE) |
///
/// `{command}` is the stored name of the command without the aggregate's name: `ship` for
/// `order.ship`. Its content is the body, as JSON; unknown fields are refused. Commands take the
/// headers of [`RequestContext`](crate::RequestContext). Internal commands cannot be sent.
///
/// # Example: orders over HTTP
///
/// ```
/// # use composable_rust_core::Aggregate;
/// # use composable_rust_runtime::App;
/// # fn f<Order: Aggregate>(app: &App) {
/// use axum::Router;
/// use axum::http::StatusCode;
/// use composable_rust_axum::{Action, Problem, aggregate};
///
/// let orders = aggregate::<Order>(app)
///     .authorize(|access| async move {
///         match (&access.action, access.user()) {
///             (Action::State, _) | (_, Some(_)) => Ok(()),
///             _ => Err(Problem::new(StatusCode::FORBIDDEN, "not_yours")),
///         }
///     })
///     .all_commands()
///     .state()
///     .history();
/// let router: Router = Router::new().nest("/orders", orders.router());
/// # }
/// ```
pub fn aggregate<A: Aggregate>(app: &App) -> Unprotected<A> {
    Unprotected { app: app.clone(), of: std::marker::PhantomData }
}

impl<A: Aggregate> Unprotected<A> {
    /// Checks every request with `check` before its query or body is read: a [`Problem`] refuses
    /// it. For checks of what a command contains, see
    /// [`check_commands`](AggregateApi::check_commands).
    pub fn authorize<F, O>(self, check: F) -> AggregateApi<A>
    where
        F: Fn(Access<A>) -> O + Send + Sync + 'static,
        O: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        AggregateApi::new(self.app, Authorization::of(check))
    }

    /// Admits every request: for a server that only trusted clients reach, or that a middleware
    /// protects.
    pub fn public(self) -> AggregateApi<A> {
        AggregateApi::new(self.app, Authorization::public())
    }
}

/// The ready handlers of an aggregate: see [`aggregate()`].
pub struct AggregateApi<A: Aggregate> {
    app: App,
    authorization: Authorization<A>,
    tracer: SchemaTracer,
    pub(crate) commands: Vec<&'static MessageKind>,
    view: Option<View<A>>,
    history: bool,
    events: bool,
    requires_key: bool,
}

impl<A: Aggregate> fmt::Debug for AggregateApi<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commands: Vec<_> = self.commands.iter().map(|kind| kind.name).collect();
        f.debug_struct("AggregateApi")
            .field("aggregate", &A::NAME)
            .field("authorization", &self.authorization)
            .field("commands", &commands)
            .field("state", &self.view.is_some())
            .field("history", &self.history)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl<A: Aggregate> AggregateApi<A> {
    fn new(app: App, authorization: Authorization<A>) -> Self {
        Self {
            app,
            authorization,
            tracer: SchemaTracer::new(),
            commands: Vec::new(),
            view: None,
            history: false,
            events: false,
            requires_key: false,
        }
    }

    /// Exposes the commands of these stored names.
    ///
    /// # Panics
    ///
    /// If the aggregate has no such command, or it is internal: a mistake of the program, which
    /// shows when it starts.
    #[must_use]
    #[track_caller]
    pub fn commands<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Self {
        for name in names {
            let kind = A::Command::KINDS.iter().find(|kind| kind.name == name);
            let kind = kind.unwrap_or_else(|| panic!("`{}` has no command `{name}`", A::NAME));
            assert!(!kind.internal, "`{name}` is internal: only the runtime delivers it");
            self.expose(kind);
        }
        self
    }

    /// Exposes all commands but the internal ones, also those that are added later.
    #[must_use]
    pub fn all_commands(mut self) -> Self {
        for kind in A::Command::KINDS.iter().filter(|kind| !kind.internal) {
            self.expose(kind);
        }
        self
    }

    /// Adds a command once; two variants may have one name, with the version that is read last.
    fn expose(&mut self, kind: &'static MessageKind) {
        match self.commands.iter_mut().find(|exposed| exposed.name == kind.name) {
            Some(exposed) if exposed.version < kind.version => *exposed = kind,
            Some(_) => {}
            None => self.commands.push(kind),
        }
    }

    /// Checks the content of every command with `check`, once the request is authorized and its
    /// body decoded: a [`Problem`] refuses it. It replaces an earlier check.
    ///
    /// # Example: a limit for all but one user
    ///
    /// ```
    /// # use composable_rust_core::prelude::*;
    /// # use composable_rust_runtime::App;
    /// # #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
    /// # struct Account;
    /// # #[derive(Debug, Clone, PartialEq, Message)]
    /// # enum AccountCommand { Withdraw { cents: u64 } }
    /// # #[derive(Debug, Clone, PartialEq, Message)]
    /// # enum AccountEvent { Withdrawn { cents: u64 } }
    /// # impl Aggregate for Account {
    /// #     const NAME: &'static str = "account";
    /// #     type Command = AccountCommand;
    /// #     type Event = AccountEvent;
    /// #     type Rejection = std::convert::Infallible;
    /// #     type Environment = ();
    /// #     fn decide(&self, command: AccountCommand, _: &Context<Self>) -> Decision<Self> {
    /// #         let AccountCommand::Withdraw { cents } = command;
    /// #         record(AccountEvent::Withdrawn { cents })
    /// #     }
    /// #     fn apply(&mut self, _: AccountEvent) {}
    /// # }
    /// # fn f(app: &App) {
    /// use axum::http::StatusCode;
    /// use composable_rust_axum::{Problem, aggregate, authenticated};
    ///
    /// let accounts = aggregate::<Account>(app)
    ///     .authorize(authenticated("Bearer"))
    ///     .all_commands()
    ///     .check_commands(|access, AccountCommand::Withdraw { cents }| async move {
    ///         match access.user() {
    ///             Some(user) if user.0 == "treasurer" || cents <= 10_000 => Ok(()),
    ///             _ => Err(Problem::new(StatusCode::FORBIDDEN, "over_limit")),
    ///         }
    ///     });
    /// # }
    /// ```
    #[must_use]
    pub fn check_commands<F, O>(mut self, check: F) -> Self
    where
        F: Fn(Access<A>, A::Command) -> O + Send + Sync + 'static,
        O: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        self.authorization.check_commands(check);
        self
    }

    /// Requires an `Idempotency-Key` of every command. Default: it is optional.
    #[must_use]
    pub fn require_idempotency_key(mut self) -> Self {
        self.requires_key = true;
        self
    }

    /// Exposes the whole state, as it is serialized for snapshots.
    #[must_use]
    pub fn state(self) -> Self {
        self.view(|_, state, _| Some(serde_json::to_vec(state)))
    }

    /// Exposes what `view` makes of the state and its version; `None` responds with 404.
    #[must_use]
    pub fn state_with<T: Serialize>(
        self,
        view: impl Fn(&Id<A>, &A, Version) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        self.view(move |id, state, version| {
            view(id, state, version).map(|view| serde_json::to_vec(&view))
        })
    }

    fn view(
        mut self,
        view: impl Fn(&Id<A>, &A, Version) -> Option<Result<Vec<u8>, serde_json::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.view = Some(Arc::new(view));
        self
    }

    /// Exposes the recorded events, in pages, with their users.
    #[must_use]
    pub fn history(mut self) -> Self {
        self.history = true;
        self
    }

    /// Exposes the events as they are committed, as server-sent events whose ids are versions. A
    /// client that reconnects gets what it has missed.
    #[must_use]
    pub fn events(mut self) -> Self {
        self.events = true;
        self
    }

    /// Adds a valid value of a type that validates its input, so that its JSON Schema can be
    /// traced.
    #[must_use]
    pub fn sample<T: Serialize>(mut self, value: &T) -> Self {
        self.tracer.sample(value);
        self
    }

    /// Returns the routes; nest them under a path.
    pub fn router(self) -> Router {
        let schemas = self.schemas();
        let Self { app, authorization, requires_key, .. } = self;
        let exposed = Arc::new(Exposed { app, authorization, schemas, requires_key });
        let mut router = Router::new();
        for kind in self.commands {
            let api = Arc::clone(&exposed);
            let handler = move |request: Request| command::post(api, kind, request);
            router = router.route(&format!("/{{id}}/{}", segment::<A>(kind)), post(handler));
        }
        if let Some(view) = self.view {
            let state = (Arc::clone(&exposed), view);
            router = router.route("/{id}", get(state::get::<A>).with_state(state));
        }
        if self.history {
            let handler = get(history::get::<A>).with_state(Arc::clone(&exposed));
            router = router.route("/{id}/history", handler);
        }
        if self.events {
            router = router.route("/{id}/events", get(events::get::<A>).with_state(exposed));
        }
        router
    }

    /// Returns the schemas of commands and rejections.
    pub(crate) fn schemas(&self) -> JsonSchemas {
        self.tracer.json_schemas(|tracer| {
            tracer.message::<A::Command>().message::<A::Rejection>();
        })
    }

    /// Returns the exposed reads: state, history, events.
    pub(crate) fn reads(&self) -> (bool, bool, bool) {
        (self.view.is_some(), self.history, self.events)
    }

    pub(crate) fn requires_key(&self) -> bool {
        self.requires_key
    }
}

/// Returns the path segment of a command: its stored name without the aggregate's.
pub(crate) fn segment<A: Aggregate>(kind: &MessageKind) -> String {
    let name = kind.name.strip_prefix(A::NAME).and_then(|name| name.strip_prefix('.'));
    path_segment::encode(name.filter(|name| !name.is_empty()).unwrap_or(kind.name))
}
