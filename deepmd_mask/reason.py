# SPDX-License-Identifier: LGPL-3.0-or-later
"""What messages say of an error that another library raised."""


def reason_of(error: Exception) -> str:
    """Return an error's first line, or its kind; of the system's errors what they mean."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = text.strip().removeprefix("Graph execution error:")  # how TensorFlow begins
    return text.strip().split("\n")[0] or type(error).__name__
