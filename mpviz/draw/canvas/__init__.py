"""What every picture is made of: the scene, its look, its page, and the painter."""
