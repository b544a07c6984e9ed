# SPDX-License-Identifier: Apache-2.0
"""One module or package a Google service. Every `Service` subclass with a name found in here is served."""
