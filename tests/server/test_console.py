from pem_server.console import accept_old_options


def test_an_old_option_is_accepted_with_a_warning(capsys) -> None:
    old = ["a.jpg", "--picture", "b.jpg", "--pictures=c", "--pictured"]
    renamed = {"--picture": "--image", "--pictures": "--images"}
    new = ["a.jpg", "--image", "b.jpg", "--images=c", "--pictured"]
    assert accept_old_options(old, renamed) == new
    assert capsys.readouterr().err.count("--image") == 2
