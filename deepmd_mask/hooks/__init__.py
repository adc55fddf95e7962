# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is hung into DeePMD-kit's own commands: where training starts from, its evaluation."""
