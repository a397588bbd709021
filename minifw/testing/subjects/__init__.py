"""Subjects: modules, functions, objects, losses and function pairs behind one surface."""

from minifw.testing.subjects.make import (
    make_reference,
    make_subject,
    partner,
    recognized,
    supported_dtypes,
    wrap,
)
from minifw.testing.subjects.subject import Adapter, CrashError, NotApplicable, Subject, UsageError

__all__ = [
    "Adapter",
    "CrashError",
    "NotApplicable",
    "Subject",
    "UsageError",
    "make_reference",
    "make_subject",
    "partner",
    "recognized",
    "supported_dtypes",
    "wrap",
]
