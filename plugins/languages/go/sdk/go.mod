module waypost.local/waypost

go 1.24
