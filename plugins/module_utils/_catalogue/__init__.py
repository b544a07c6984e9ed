# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue of resource kinds: one file for each Google service, collected in :mod:`.kinds`.

A module imports its resource from the file of its service. What handles any kind (the survey, destroy, drift) imports
``KINDS``.
"""
