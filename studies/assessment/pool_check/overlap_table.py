"""The overlap of training and held-out text for people: a row a held-out domain, then a row a partition."""

from rich.console import Console
from rich.table import Table

from pool.corpus.overlap import WORDS, Overlap


def show_overlap(console: Console, overlap: Overlap) -> None:
    """Show the share of held-out documents with a shared passage, and how many training documents have one."""
    console.print(f"Held-out documents with a run of {WORDS} words that also stands in training text")
    table = Table("held-out domain", "documents")
    table.add_column("share of them, by partition", ratio=1)
    for domain, checked in overlap.checked.items():
        shares = {name: row[domain] / checked for name, row in overlap.shared.items() if row[domain]}
        shown = [f"{name} {shares[name]:.1%}" for name in sorted(shares, key=lambda name: -shares[name])]
        table.add_row(domain, f"{checked:,}", ", ".join(shown) or "none")
    console.print(table)
    table = Table("partition", "training documents", "with such a run")
    for name, documents in overlap.documents.items():
        table.add_row(name, f"{documents:,}", f"{overlap.training[name]:,}")
    console.print(table)
    short = sum(overlap.too_short.values())
    if short:
        console.print(f"{short:,} held-out documents have fewer than {WORDS} words and cannot be checked.")
    console.print("drop_overlap = true under [corpus] leaves such training documents out.")
