# lines.awk - counts lines of C that hold code: not blank, not only comment.
# Strings and character constants are passed over, so that "/*" in one starts nothing.
{
    line = $0
    code = 0
    while (line != "") {
        if (comment) {
            end = index(line, "*/")
            if (!end) break
            line = substr(line, end + 2)
            comment = 0
        } else if (match(line, /^[ \t\r]+/)) {
            line = substr(line, RLENGTH + 1)
        } else if (substr(line, 1, 2) == "//") {
            break
        } else if (substr(line, 1, 2) == "/*") {
            comment = 1
            line = substr(line, 3)
        } else {
            code = 1
            if (!match(line, /^"([^"\\]|\\.)*"/) && !match(line, /^'([^'\\]|\\.)*'/)) RLENGTH = 1
            line = substr(line, RLENGTH + 1)
        }
    }
    lines += code
}
END { print lines + 0 }
