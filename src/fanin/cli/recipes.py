"""``fanin recipes``: every recipe, one line each."""


def recipes_command() -> None:
    """List the recipes: how a whole model can be initialised.  Every scheme is a recipe too."""
    from fanin.planning import RECIPES
    from fanin.reporting import terminal

    terminal.show_recipes(RECIPES)
