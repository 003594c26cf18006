//! Parameters and rows of both databases.

/// The bounds of PostgreSQL, which hold for everything if the feature is off.
mod postgres {
    #[cfg(feature = "postgres")]
    mod bounds {
        use composable_rust_postgres::sqlx::postgres::{PgRow, Postgres};
        use composable_rust_postgres::sqlx::{Encode, FromRow, Type};

        pub trait Value<'q>: Encode<'q, Postgres> + Type<Postgres> {}
        impl<'q, T: Encode<'q, Postgres> + Type<Postgres>> Value<'q> for T {}
        pub trait Row: for<'r> FromRow<'r, PgRow> {}
        impl<T: for<'r> FromRow<'r, PgRow>> Row for T {}
    }
    #[cfg(not(feature = "postgres"))]
    mod bounds {
        pub trait Value<'q> {}
        impl<T> Value<'_> for T {}
        pub trait Row {}
        impl<T> Row for T {}
    }
    pub(super) use bounds::{Row, Value};
}

/// The bounds of SQLite, which hold for everything if the feature is off.
mod sqlite {
    #[cfg(feature = "sqlite")]
    mod bounds {
        use composable_rust_sqlite::sqlx::sqlite::{Sqlite, SqliteRow};
        use composable_rust_sqlite::sqlx::{Encode, FromRow, Type};

        pub trait Value<'q>: Encode<'q, Sqlite> + Type<Sqlite> {}
        impl<'q, T: Encode<'q, Sqlite> + Type<Sqlite>> Value<'q> for T {}
        pub trait Row: for<'r> FromRow<'r, SqliteRow> {}
        impl<T: for<'r> FromRow<'r, SqliteRow>> Row for T {}
    }
    #[cfg(not(feature = "sqlite"))]
    mod bounds {
        pub trait Value<'q> {}
        impl<T> Value<'_> for T {}
        pub trait Row {}
        impl<T> Row for T {}
    }
    pub(super) use bounds::{Row, Value};
}

/// A value that is a parameter of a statement on each database of the program.
///
/// On both: `bool`, `i16`, `i32`, `i64`, `f32`, `f64`, texts, bytes, `Uuid`, and `Option`s of and
/// references to these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a parameter of each database of this program",
    note = "both databases take `bool`, `i16`, `i32`, `i64`, `f32`, `f64`, `&str`, `String`, \
            `&[u8]`, `Vec<u8>`, `Uuid`, and `Option`s of these"
)]
pub trait SqlValue<'q>: postgres::Value<'q> + sqlite::Value<'q> + Send + 'q {}

impl<'q, T: postgres::Value<'q> + sqlite::Value<'q> + Send + 'q> SqlValue<'q> for T {}

/// A row as each database of the program returns it: a tuple, or a type that derives
/// `sqlx::FromRow`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of each database of this program",
    note = "read a row into a tuple, such as `(String, i64)` or `(i64,)`, or into a type that \
            derives `sqlx::FromRow`"
)]
pub trait SqlRow: postgres::Row + sqlite::Row + Send + Unpin {}

impl<T: postgres::Row + sqlite::Row + Send + Unpin> SqlRow for T {}
