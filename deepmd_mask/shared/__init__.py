# SPDX-License-Identifier: LGPL-3.0-or-later
"""What all rooms share: words for errors, elements, and what is refused everywhere."""
