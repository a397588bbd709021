"""The result of comparing both frameworks, and how it changed since an earlier one."""
