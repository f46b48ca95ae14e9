//! Errors as JavaScript sees them: an `Error` with a stable `code`.

use elgate_types::ErrorCode;
use napi::bindgen_prelude::{JsObjectValue, JsValue, Object};
use napi::{Env, Error, Status};

/// Stands between code and message while an error crosses napi's own error type, which has no
/// room for a code of ours on the asynchronous path. Appears in no message.
const SEPARATOR: char = '\u{1f}';

/// An error whose code survives until [`with_code`] makes it a JavaScript error.
pub(crate) fn coded(code: ErrorCode, message: impl std::fmt::Display) -> Error {
    Error::new(Status::GenericFailure, format!("{}{SEPARATOR}{message}", code.row().name))
}

/// Turns an error made by [`coded`] into a JavaScript `Error` carrying `code`.
pub(crate) fn with_code(env: Env, error: Error) -> Error {
    let Some((code, message)) = error.reason.split_once(SEPARATOR) else { return error };
    let made = env.create_error(Error::new(Status::GenericFailure, message)).and_then(
        |mut object: Object<'_>| {
            object.set_named_property("code", code)?;
            Ok(Error::from(object.to_unknown()))
        },
    );
    made.unwrap_or(error)
}
