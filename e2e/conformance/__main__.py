"""Write docs/conformance.md anew from the scenarios' declarations."""

from e2e.conformance.table import PAGE, page

PAGE.write_text(page())
