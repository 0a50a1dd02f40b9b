"""All errors, as one tree.

    BaseRuntimeError(code, kind, message)
    ├── InitializationError                 no platform is configured, or it cannot be reached or started
    ├── RuntimeSystemError                  the platform's fault
    │   ├── SystemUnavailableError          the platform does not answer
    │   └── WorkerLostError, UnionRpcError  the process that ran the action died or stopped answering; Flyte's own
    ├── RuntimeUnknownError
    └── RuntimeUserError                    the user's fault: code, inputs, names
        ├── InvalidInputError (ValueError)  an input is missing, unknown or of the wrong type        422
        ├── NotFoundError                                                                            404
        │   ├── RemoteTaskNotFoundError
        │   ├── RunNotFoundError, ActionNotFoundError
        │   └── AppNotFoundError, SecretNotFoundError, ConditionNotFoundError
        ├── AlreadyExistsError ─ RunAlreadyExistsError       a name is taken by something else       409
        ├── NotAuthenticatedError                                                                    401
        ├── NotAllowedError                                                                          403
        ├── TooLargeError                   a value or a body is over the limit                      413
        ├── DeploymentError                 an app did not start, a cycle, a broken import
        ├── OOMError, TaskInterruptedError, ActionAbortedError, RetriesExhaustedError, StorageError
        ├── TaskTimeoutError ─ MaxRuntimeExceededError, MaxQueuedTimeExceededError, DeadlineExceededError
        └── …                               the rest of Flyte's names, see below

An ordinary exception raised in a child task reaches its caller as a class that is both `RuntimeUserError` and the
original type (see `user_error`), so that `except ValueError` and `except flyte.errors.RuntimeUserError` both work. A
class that cannot be had without its own arguments (`ExceptionGroup`, pydantic's `ValidationError`) counts as the
nearest of its bases; what drives Python's iterators and processes (`StopIteration`, `SystemExit`) is never mixed in.
"""

from __future__ import annotations

import builtins
import functools
from typing import Any, ClassVar, Literal

from flyte.mixture import blanks

Kind = Literal["user", "system", "unknown"]


class BaseRuntimeError(RuntimeError):
    """An error with a code, whose fault it was, and a sentence that says what to do.

    `code` is stable and meant for programs; `status` is the HTTP status the API answers with.
    """

    status: ClassVar[int] = 500
    default_kind: ClassVar[Kind] = "unknown"

    def __init__(
        self, code: str, kind: Kind | None = None, root_cause_message: str = "", worker: str | None = None
    ) -> None:
        RuntimeError.__init__(self, root_cause_message or code)  # not `super()`: that may be a stranger's, in a mixture
        self.code = code
        self.kind: Kind = kind or self.default_kind
        self.message = root_cause_message or code
        self.root_cause_message = self.message
        self.worker = worker
        self.traceback: str | None = None
        """The traceback text of the process where it happened, where there is one."""

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self).__name__, self.code, self.kind, self.message, self.traceback))


class InitializationError(BaseRuntimeError):
    """Raised when no platform is configured, or it cannot be reached or started."""

    default_kind = "user"


class RuntimeUnknownError(BaseRuntimeError):
    """Raised when it cannot be told whose fault it was."""


class RuntimeSystemError(BaseRuntimeError):
    """Raised when the platform, not the user's code, failed."""

    default_kind = "system"

    def __init__(self, code: str, root_cause_message: str = "", worker: str | None = None) -> None:
        super().__init__(code, self.default_kind, root_cause_message, worker)


class RuntimeUserError(BaseRuntimeError):
    """Raised when the user's code or call failed; `code` is the class name of the original exception."""

    default_kind = "user"
    status = 400

    def __init__(self, code: str, root_cause_message: str = "", worker: str | None = None) -> None:
        BaseRuntimeError.__init__(self, code, self.default_kind, root_cause_message, worker)  # see there


class _Coded(RuntimeUserError):
    """A user error whose code is its class name, made from its message alone."""

    def __init__(self, root_cause_message: str = "", code: str | None = None) -> None:
        super().__init__(code or type(self).__name__, root_cause_message or (type(self).__doc__ or "").strip())


class SystemUnavailableError(RuntimeSystemError):
    """Raised when the platform does not answer."""

    status = 503

    def __init__(self, root_cause_message: str = "", code: str | None = None) -> None:
        super().__init__(code or "SystemUnavailableError", root_cause_message)


class WorkerLostError(RuntimeSystemError):
    """Raised when the process that ran the action died or stopped answering."""

    def __init__(self, root_cause_message: str = "", code: str | None = None) -> None:
        super().__init__(code or "WorkerLostError", root_cause_message)


class InvalidInputError(_Coded, ValueError):
    """Raised when an input is missing, unknown, or not of the declared type."""

    status = 422


class NotFoundError(_Coded):
    """Raised when no such thing exists."""

    status = 404


class RemoteTaskNotFoundError(NotFoundError):
    """Raised when no task has that name at that version."""


class RunNotFoundError(NotFoundError):
    """Raised when no run has that name."""


class ActionNotFoundError(NotFoundError):
    """Raised when the run has no action of that name."""


class AppNotFoundError(NotFoundError):
    """Raised when no app has that name."""


class SecretNotFoundError(NotFoundError):
    """Raised when no secret has that name; the message holds the command that creates it."""


class ConditionNotFoundError(NotFoundError):
    """Raised when no condition has that name."""


class AlreadyExistsError(_Coded):
    """Raised when a name is taken by something else."""

    status = 409


class RunAlreadyExistsError(AlreadyExistsError):
    """Raised when a run of that name exists with another task or other inputs."""


class ConditionAlreadyExistsError(AlreadyExistsError):
    """Raised when a condition of that name exists."""


class NotAuthenticatedError(_Coded):
    """Raised when a call carries no key, or one the platform does not know."""

    status = 401


class NotAllowedError(_Coded):
    """Raised when the caller is known and does not have the permission."""

    status = 403


class TooLargeError(_Coded):
    """Raised when a value or a request body is over the limit."""

    status = 413


class InlineIOMaxBytesBreached(TooLargeError):
    """Raised when a task's value is over the limit that the task declares."""


class StorageError(_Coded):
    """Raised when an object store refuses access, is full, or does not have the bucket."""

    status = 500


class DeploymentError(_Coded):
    """Raised when a deployment is refused or does not become healthy."""

    status = 422


class ImageBuildError(_Coded):
    """Raised when an environment's image cannot be made."""

    status = 422


class InvalidImageNameError(_Coded):
    """Raised when an image has no usable name."""


class ImagePullBackOffError(_Coded):
    """Raised when an image cannot be fetched."""


class ModuleLoadError(_Coded):
    """Raised when the module that declares a task or an app cannot be imported."""

    status = 422


class InvalidPackageError(_Coded):
    """Raised when a declared package cannot be installed."""


class CodeBundleError(_Coded):
    """Raised when there is no code to ship, or it cannot be read."""


class ParameterMaterializationError(_Coded):
    """Raised when an app's parameter cannot be resolved."""


class RuntimeDataValidationError(_Coded, ValueError):
    """Raised when a value does not fit the type that the task declares."""

    status = 422


class RestrictedTypeError(_Coded, TypeError):
    """Raised when a type cannot cross a process boundary."""


class OOMError(_Coded):
    """Raised when the action used more memory than it may."""


class TaskInterruptedError(_Coded):
    """Raised when the process of an action was ended from outside."""


class ActionAbortedError(_Coded):
    """Raised when the action was aborted."""


class RetriesExhaustedError(_Coded):
    """Raised when the last attempt failed too."""


class TaskTimeoutError(_Coded, TimeoutError):
    """Raised when a time limit passed."""


class MaxRuntimeExceededError(TaskTimeoutError):
    """Raised when one attempt ran longer than `max_runtime`."""


class MaxQueuedTimeExceededError(TaskTimeoutError):
    """Raised when the action waited longer than `max_queued_time`."""


class DeadlineExceededError(TaskTimeoutError):
    """Raised when all attempts together took longer than `deadline`."""


class CustomError(_Coded):
    """Raised for an exception that has no class of its own here."""


class NonRecoverableError(RuntimeUserError):
    """Raise it in a task to fail the action at once, without further retries."""

    def __init__(self, message: str = "", code: str = "NonRecoverableError") -> None:
        super().__init__(code, message)


class PrimaryContainerNotFoundError(_Coded):
    """Raised when a pod template has no primary container."""


class NotInTaskContextError(_Coded):
    """Raised when an operation that needs a running task is called outside of one."""


class RemoteTaskUsageError(_Coded):
    """Raised when a fetched task is called where only `flyte.run` may start it."""


class OnlyAsyncIOSupportedError(_Coded):
    """Raised when another event loop than asyncio's is running."""


class SyncTaskCallInAsyncContextError(_Coded):
    """Raised by Flyte for a blocking task call in async code; here the call works, and the class is kept."""


class TraceDoesNotAllowNestedTasksError(_Coded):
    """Raised when a traced function calls a task."""


class ConditionTimedoutError(_Coded):
    """Raised when nobody answered a condition in time."""


class ConditionFailedError(_Coded):
    """Raised when a condition failed."""


class UnionRpcError(RuntimeSystemError):
    """Flyte's error of a failed remote call. Never raised here: see SystemUnavailableError and the other classes."""

    def __init__(self, root_cause_message: str = "", code: str | None = None) -> None:
        super().__init__(code or "UnionRpcError", root_cause_message)


class SlowDownError(_Coded):
    """Flyte's answer to too many calls. Never raised here: there are no rate limits."""

    status = 429


class ResourceExhaustedError(_Coded):
    """Flyte's answer when a quota is exhausted. Never raised here: there are no quotas, and actions wait for room."""

    status = 429


class HardwareFaultError(_Coded):
    """Flyte has classes for faults of GPUs and of Apple Silicon. Never raised here: neither is scheduled."""


class LogsNotYetAvailableError(_Coded):
    """Raised when an action has not started, so that there are no logs."""


def __getattr__(name: str) -> Any:
    """The many `GPUFault…` and `AppleSilicon…` classes, so that an `except` that names one hides no other error."""
    if name.startswith(("GPUFault", "AppleSilicon")):
        return HardwareFaultError
    raise AttributeError(f"module 'flyte.errors' has no attribute {name!r}")


@functools.cache
def by_code() -> dict[str, type[BaseRuntimeError]]:
    """Every class above by the code its instances carry."""
    classes = [value for value in globals().values() if isinstance(value, type)]
    return {cls.__name__: cls for cls in classes if issubclass(cls, BaseRuntimeError)}


def user_error(code: str, message: str, original: type[BaseException] | None = None) -> RuntimeUserError:
    """An error that is `RuntimeUserError` with `code`, and of the type `original` or of the nearest base of it that can
    be had without its arguments.
    """
    if original is None:
        builtin = getattr(builtins, code, None)
        original = builtin if isinstance(builtin, type) and issubclass(builtin, Exception) else None
    if original is None or original.__module__ == __name__:
        return RuntimeUserError(code, message)
    for error in blanks(RuntimeUserError, original):
        try:
            RuntimeUserError.__init__(error, code, message)
        except Exception:  # noqa: BLE001 - a stranger's class, whose attributes may not be set
            continue
        return error
    return RuntimeUserError(code, message)


def make(code: str, kind: Kind, message: str, original: type[BaseException] | None = None) -> BaseRuntimeError:
    """The error that `code` and `kind` stand for, as it crossed a process boundary."""
    known = by_code().get(code)
    if known is not None and known not in (BaseRuntimeError, RuntimeSystemError, RuntimeUserError, _Coded):
        blank = OSError.__new__ if issubclass(known, OSError) else known.__new__  # timeouts have OSError's layout
        error: BaseRuntimeError = blank(known)
        BaseRuntimeError.__init__(error, code, kind, message)
        return error
    if kind == "system":
        return RuntimeSystemError(code, message)
    if kind == "user":
        return user_error(code, message, original)
    return RuntimeUnknownError(code, kind, message)


def _rebuild(name: str, code: str, kind: Kind, message: str, traceback: str | None) -> BaseRuntimeError:
    known = by_code().get(name)
    error = make(name if known else code, kind, message)
    error.code, error.traceback = code, traceback
    return error
