"""A training plan for people."""

from rich.console import Console
from rich.table import Table

from studies.handover.plan import Plan


def show_plan(console: Console, plan: Plan) -> None:
    """Show weight, tokens and epochs of every partition used, and which are repeated."""
    console.print(f"Training run of {plan.tokens:,} tokens on the best mixture of study {plan.study}")
    table = Table()
    for heading in ("partition", "weight", "tokens", "epochs", "share of documents"):
        table.add_column(heading, justify="left" if heading == "partition" else "right")
    for name, share in sorted(plan.used.items(), key=lambda item: -item[1].weight):
        table.add_row(
            name, f"{share.weight:.4f}", f"{share.tokens:,}", f"{share.epochs:.2f}", f"{share.document_share:.4f}"
        )
    console.print(table)
    repeated = [name for name, share in plan.used.items() if share.epochs > 1]
    if repeated:
        console.print(f"repeated: {', '.join(repeated)}.")
        console.print("A merge cannot see repetition; [space] max_epochs rules it out beforehand.")
