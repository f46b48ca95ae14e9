//! Blocking work on libuv's pool, as a promise.

use crate::error::with_code;
use napi::bindgen_prelude::{AsyncTask, ToNapiValue, TypeName};
use napi::{Env, Error, Result, Task};

/// Runs `work` on the pool; the promise settles with its outcome.
pub struct Blocking<T> {
    work: Option<Box<dyn FnOnce() -> Result<T> + Send>>,
}

/// A promise of what `work` returns.
pub(crate) fn blocking<T>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> AsyncTask<Blocking<T>>
where
    T: Send + ToNapiValue + TypeName + 'static,
{
    AsyncTask::new(Blocking { work: Some(Box::new(work)) })
}

impl<T: Send + ToNapiValue + TypeName + 'static> Task for Blocking<T> {
    type Output = T;
    type JsValue = T;

    fn compute(&mut self) -> Result<T> {
        let work = self.work.take().ok_or_else(|| Error::from_reason("the work ran already"))?;
        work()
    }

    fn resolve(&mut self, _: Env, output: T) -> Result<T> {
        Ok(output)
    }

    fn reject(&mut self, env: Env, error: Error) -> Result<T> {
        Err(with_code(env, error))
    }
}
